//! What administrators do: keys, names in certificates, tenants, and the first key of all.

use longhaul::{
    proto::v1::{
        CreateKeyRequest, CreateKeyResponse, CreateTenantRequest, CreateTenantResponse,
        GetCallerResponse, Key, ListKeysRequest, ListKeysResponse, ListTenantsRequest,
        ListTenantsResponse, Quotas, RevokeKeyRequest, RevokeKeyResponse, Role, Tenant,
        UpdateTenantRequest, UpdateTenantResponse,
    },
    store::{
        Store,
        sqlite::{OpenError, SqliteStore},
    },
};
use std::sync::Arc;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::{
    cast::{Cast, OTHER, OWN, caller, in_seconds, key, make_key, make_tenant, revoke, wanted},
    contract::ROLES,
    fixture::{Opened, Place, database},
    served::{On, Served, call, on_each_store, reason, settings, start},
    wire::{PATIENCE, Wire},
};

async fn create(
    served: &Served,
    by: &str,
    request: &CreateKeyRequest,
) -> Result<CreateKeyResponse, Status> {
    served.call(by, "AdminService/CreateKey", request).await
}

/// All keys that somebody may see, in pages of this size.
async fn keys(served: &Served, by: &str, tenant: &str, page_size: i32) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListKeysRequest {
            tenant: tenant.to_owned(),
            page_size,
            page_token,
        };
        let page = served.call(by, "AdminService/ListKeys", &request);
        let page: ListKeysResponse = page.await.unwrap();
        keys.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return keys;
        }
    }
}

async fn nobody_gives_more_than_they_have(on: On) {
    let cast = Cast::on(on).await;
    let served = &cast.served;
    let operator = &served.first_key;
    let admin = key(served, OWN, &[Role::Admin], false).await;
    let reader = key(served, OWN, &[Role::Admin, Role::Read], false).await;
    let of_two = CreateKeyRequest {
        drivers: vec!["a".to_owned(), "b".to_owned()],
        ..wanted(OWN, &[Role::Admin, Role::Work])
    };
    let worker = create(served, operator, &of_two).await.unwrap().secret;
    let wide = key(served, "default", &[Role::Admin], true).await;
    let with = |drivers: &[&str], request: CreateKeyRequest| CreateKeyRequest {
        drivers: drivers.iter().map(|&driver| driver.to_owned()).collect(),
        ..request
    };
    let everywhere = |request: CreateKeyRequest| CreateKeyRequest {
        all_tenants: true,
        ..request
    };
    let certificate = |request: CreateKeyRequest| CreateKeyRequest {
        certificate: "dns:a.example".to_owned(),
        ..request
    };
    let (ok, role, tenant) = ("", "ROLE_REQUIRED", "TENANT_NOT_FOUND");
    let admins = || wanted("", &[Role::Admin]);
    let workers = || wanted("", &[Role::Work]);
    for (by, request, expected) in [
        (&admin, admins(), ok),
        (&admin, wanted(OWN, &[Role::Admin]), ok),
        (&admin, wanted("", &[Role::Admin, Role::Read]), role),
        (&admin, workers(), role),
        (&admin, wanted(OTHER, &[Role::Admin]), tenant),
        (&admin, wanted("default", &[Role::Admin]), tenant),
        (&admin, wanted("none", &[Role::Admin]), tenant),
        (&admin, everywhere(admins()), role),
        (&admin, certificate(admins()), role),
        (&reader, wanted("", &[Role::Read]), ok),
        (&reader, wanted("", &[Role::Submit]), role),
        (&worker, with(&["a"], workers()), ok),
        (&worker, with(&["a", "b"], workers()), ok),
        (&worker, with(&["a", "c"], workers()), role),
        (&worker, workers(), role),
        (&worker, admins(), ok),
        (&wide, wanted(OWN, &ROLES), ok),
        (&wide, everywhere(wanted(OTHER, &ROLES)), ok),
        (&wide, wanted("none", &ROLES), tenant),
        (&wide, certificate(wanted(OWN, &ROLES)), ok),
        (operator, with(&["c"], wanted(OTHER, &[Role::Work])), ok),
    ] {
        let made = create(served, by, &request).await;
        let told = made.as_ref().map_or_else(reason, |_| String::new());
        assert_eq!(told, expected, "{request:?}");
        if let Err(refused) = made {
            let code = match expected == role {
                true => Code::PermissionDenied,
                false => Code::NotFound,
            };
            assert_eq!(refused.code(), code);
        }
    }
    cast.served.stop().await;
}

/// A key is what was asked for; its secret is told once.
async fn a_key_is_what_was_asked_for(on: On) {
    let served = Served::on(on).await;
    make_tenant(&served, OWN).await;
    let expire_time = in_seconds(3_600);
    let request = CreateKeyRequest {
        name: "night shift".to_owned(),
        drivers: vec!["a".to_owned(), "b".to_owned()],
        expire_time,
        ..wanted(OWN, &[Role::Read, Role::Work])
    };
    let made = create(&served, &served.first_key, &request).await.unwrap();
    let told = made.key.unwrap();
    let operator = caller(&served, &served.first_key).await.unwrap();
    assert_eq!(
        (told.tenant.as_str(), told.name.as_str()),
        (OWN, "night shift")
    );
    assert_eq!(
        (&told.roles, &told.drivers),
        (&request.roles, &request.drivers)
    );
    assert_eq!(
        (told.creator.as_str(), told.all_tenants),
        (operator.name.as_str(), false)
    );
    assert_eq!((told.revoke_time, told.last_used_time), (None, None));
    // The clock of what is stored counts microseconds.
    let [kept, asked] = [told.expire_time, expire_time].map(|time| time.unwrap());
    assert_eq!(
        (kept.seconds, kept.nanos / 1_000),
        (asked.seconds, asked.nanos / 1_000)
    );
    let who = caller(&served, &made.secret).await.unwrap();
    let expected = GetCallerResponse {
        name: format!("key:{}", told.key_id),
        tenant: OWN.to_owned(),
        roles: request.roles.clone(),
        drivers: request.drivers.clone(),
        all_tenants: false,
    };
    assert_eq!(who, expected);
    let listed = keys(&served, &served.first_key, OWN, 50).await;
    assert_eq!(listed, std::slice::from_ref(&told));
    let (_, secret) = made.secret.rsplit_once('_').unwrap();
    assert!(!format!("{listed:?}").contains(secret) && made.secret.contains(&told.key_id));

    type Change = fn(&mut CreateKeyRequest);
    let changes: [(Change, &str); 8] = [
        (|r| r.roles.clear(), "roles"),
        (|r| r.roles.push(99), "roles[2]"),
        (|r| r.tenant = "A b".to_owned(), "tenant"),
        (|r| r.drivers.push("a b".to_owned()), "drivers[2]"),
        (|r| r.expire_time = in_seconds(-1), "expire_time"),
        (|r| r.name = "x".repeat(300), "name"),
        (|r| r.certificate = "no name".to_owned(), "certificate"),
        (
            |r| (r.roles, r.all_tenants) = (vec![Role::Read as i32], true),
            "all_tenants",
        ),
    ];
    for (change, field) in changes {
        let mut bad = request.clone();
        change(&mut bad);
        let refused = create(&served, &served.first_key, &bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        assert!(
            refused.message().starts_with(field),
            "{field}: {}",
            refused.message()
        );
    }
    assert_eq!(keys(&served, &served.first_key, OWN, 50).await.len(), 1);
    served.stop().await;
}

async fn a_key_is_revoked_once_for_all(on: On) {
    let served = Served::on(on).await;
    make_tenant(&served, OWN).await;
    let made = make_key(&served, OWN, &ROLES, false).await.key.unwrap();
    let first = revoke(&served, &made.key_id).await;
    assert_ne!(first.revoke_time, None);
    assert_eq!(revoke(&served, &made.key_id).await, first);
    assert_eq!(keys(&served, &served.first_key, OWN, 50).await, [first]);
    for (id, expected) in [
        ("0123456789abcdef", "KEY_NOT_FOUND"),
        ("cert:dns:a", "KEY_NOT_FOUND"),
        ("", "INVALID_REQUEST"),
        ("a\nb", "INVALID_REQUEST"),
        (&"x".repeat(600), "INVALID_REQUEST"),
    ] {
        let key_id = id.to_owned();
        let path = "AdminService/RevokeKey";
        let request = RevokeKeyRequest { key_id };
        let refused = served.call::<RevokeKeyResponse>(&served.first_key, path, &request);
        assert_eq!(reason(&refused.await.unwrap_err()), expected, "{id}");
    }
    served.stop().await;
}

/// A name in a certificate is somebody's until it is taken back.
async fn a_name_in_a_certificate_has_one_holder(on: On) {
    let served = Served::on(on).await;
    let operator = &served.first_key;
    for tenant in [OWN, OTHER] {
        make_tenant(&served, tenant).await;
    }
    let name = "spiffe://example.org/worker";
    let of = |tenant: &str| CreateKeyRequest {
        certificate: name.to_owned(),
        ..wanted(tenant, &[Role::Work])
    };
    let made = create(&served, operator, &of(OWN)).await.unwrap();
    let told = made.key.unwrap();
    assert_eq!(made.secret, "");
    assert_eq!(
        (told.key_id.as_str(), told.certificate.as_str()),
        ("cert:spiffe://example.org/worker", name)
    );
    for tenant in [OWN, OTHER] {
        let refused = create(&served, operator, &of(tenant)).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::AlreadyExists, "KEY_EXISTS")
        );
    }
    revoke(&served, &told.key_id).await;
    let again = create(&served, operator, &of(OTHER))
        .await
        .unwrap()
        .key
        .unwrap();
    assert_eq!((again.tenant.as_str(), again.revoke_time), (OTHER, None));
    assert_eq!(keys(&served, operator, OWN, 50).await, []);
    // Nobody gets in by naming it.
    for text in [&told.key_id, name] {
        let refused = caller(&served, text).await.unwrap_err();
        assert_eq!(reason(&refused), "CREDENTIAL_INVALID");
    }
    served.stop().await;
}

async fn pages_follow_without_gap_or_repeat(on: On) {
    let served = Served::on(on).await;
    let operator = &served.first_key;
    let mut names = Vec::new();
    for n in 0..7 {
        names.push(make_tenant(&served, &format!("tenant-{n}")).await.name);
        make_key(&served, "tenant-0", &[Role::Read], false).await;
    }
    let whole = keys(&served, operator, "", 50).await;
    assert_eq!(whole.len(), 8);
    assert!(whole.is_sorted_by(|a, b| a.key_id < b.key_id));
    for size in [1, 3, 8] {
        assert_eq!(keys(&served, operator, "", size).await, whole);
    }
    let of_one: Vec<_> = whole
        .iter()
        .filter(|k| k.tenant == "tenant-0")
        .cloned()
        .collect();
    assert_eq!(keys(&served, operator, "tenant-0", 2).await, of_one);
    for size in [1, 3, 7, 50] {
        let mut told = Vec::new();
        let mut page_token = String::new();
        loop {
            let page_size = size;
            let request = ListTenantsRequest {
                page_size,
                page_token,
            };
            let page = served.call(operator, "AdminService/ListTenants", &request);
            let page: ListTenantsResponse = page.await.unwrap();
            told.extend(page.tenants.into_iter().map(|tenant| tenant.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(told, names, "{size}");
    }
    let request = ListKeysRequest {
        page_size: -1,
        ..ListKeysRequest::default()
    };
    let refused = served.call::<ListKeysResponse>(operator, "AdminService/ListKeys", &request);
    assert_eq!(refused.await.unwrap_err().code(), Code::InvalidArgument);
    served.stop().await;
}

async fn a_tenant_changes_as_it_is_told(on: On) {
    let served = Served::on(on).await;
    let operator = &served.first_key;
    let quotas = |watches| Quotas {
        watches: Some(watches),
        ..Quotas::default()
    };
    let create = async |name: &str, disabled| {
        let tenant = Tenant {
            name: name.to_owned(),
            quotas: Some(quotas(3)),
            disabled,
            ..Tenant::default()
        };
        let request = CreateTenantRequest {
            tenant: Some(tenant),
        };
        let made =
            served.call::<CreateTenantResponse>(operator, "AdminService/CreateTenant", &request);
        made.await.map(|made| made.tenant.unwrap())
    };
    let update = async |name: &str, quotas, disabled| {
        let name = name.to_owned();
        let request = UpdateTenantRequest {
            name,
            quotas,
            disabled,
        };
        let path = "AdminService/UpdateTenant";
        let changed = served.call::<UpdateTenantResponse>(operator, path, &request);
        changed.await.map(|changed| changed.tenant.unwrap())
    };
    let made = create(OWN, false).await.unwrap();
    assert_eq!((made.disabled, made.quotas), (false, Some(quotas(3))));
    for (name, disabled, expected) in [
        (OWN, false, "TENANT_EXISTS"),
        ("default", false, "TENANT_EXISTS"),
        ("Acme", false, "INVALID_REQUEST"),
        ("", false, "INVALID_REQUEST"),
        ("-a", false, "INVALID_REQUEST"),
        ("b", true, "INVALID_REQUEST"),
    ] {
        let refused = create(name, disabled).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "{name}");
    }
    // What is not said stays.
    let changed = update(OWN, None, Some(true)).await.unwrap();
    assert_eq!((changed.disabled, changed.quotas), (true, Some(quotas(3))));
    let changed = update(OWN, Some(quotas(5)), None).await.unwrap();
    assert_eq!((changed.disabled, changed.quotas), (true, Some(quotas(5))));
    assert_eq!(changed.create_time, made.create_time);
    assert_eq!(
        update(OWN, Some(quotas(5)), Some(true)).await.unwrap(),
        changed
    );
    // One that is disabled can be given keys, which are good later.
    let early = key(&served, OWN, &[Role::Read], false).await;
    assert_eq!(
        reason(&caller(&served, &early).await.unwrap_err()),
        "CREDENTIAL_INVALID"
    );
    update(OWN, None, Some(false)).await.unwrap();
    assert_eq!(caller(&served, &early).await.unwrap().tenant, OWN);
    // That of callers without a credential is there without a record.
    let default = update("default", Some(quotas(9)), None).await.unwrap();
    assert_eq!(
        (default.name.as_str(), default.quotas),
        ("default", Some(quotas(9)))
    );
    let refused = update("none", None, Some(true)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::NotFound, "TENANT_NOT_FOUND")
    );
    served.stop().await;
}

on_each_store!(
    nobody_gives_more_than_they_have,
    a_key_is_what_was_asked_for,
    a_key_is_revoked_once_for_all,
    a_name_in_a_certificate_has_one_holder,
    pages_follow_without_gap_or_repeat,
    a_tenant_changes_as_it_is_told,
);

/// A store that stays when its server goes; every server that starts on it opens it anew.
async fn reopened(on: On, open: impl AsyncFn() -> Opened) {
    let serve = async || {
        let Opened { store, place } = open().await;
        let (server, first) = start(settings(), store as Arc<dyn Store>).await;
        let wire = Wire::to(server.local_addr()).await;
        (server, first, wire, place)
    };
    let (server, first, wire, _place) = serve().await;
    let first = first.unwrap_or_else(|| panic!("{on:?} had no key"));
    let path = "AdminService/GetCaller";
    let request = longhaul::proto::v1::GetCallerRequest {};
    let who: GetCallerResponse = call(&wire, &first, path, &request).await.unwrap();
    assert_eq!(
        (who.tenant.as_str(), who.roles.len(), who.all_tenants),
        ("default", 6, true)
    );
    drop(wire);
    server.drain().await.unwrap();

    let (server, second, wire, _place) = serve().await;
    assert_eq!(second, None, "there is one already");
    let who: GetCallerResponse = call(&wire, &first, path, &request).await.unwrap();
    let listed = ListKeysRequest::default();
    let listed: ListKeysResponse = call(&wire, &first, "AdminService/ListKeys", &listed)
        .await
        .unwrap();
    let [key] = listed.keys.as_slice() else {
        panic!("{listed:?}");
    };
    assert_eq!(who.name, format!("key:{}", key.key_id));
    // What was used is noted, at the latest when the server goes.
    let (made, used) = (key.create_time.unwrap(), key.last_used_time.unwrap());
    assert!(
        (used.seconds, used.nanos) > (made.seconds, made.nanos),
        "{key:?}"
    );
    drop(wire);
    server.drain().await.unwrap();
}

#[tokio::test]
async fn a_directory_has_one_first_key() {
    let dir = tempfile::tempdir().unwrap();
    let open = async || loop {
        // The last of a server's tasks lets go of its directory when it has ended, which is soon after the drain.
        match SqliteStore::open(dir.path()) {
            Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    };
    reopened(On::Sqlite, async || Opened {
        store: Arc::new(timeout(PATIENCE, open()).await.unwrap()),
        place: Place::Nowhere,
    })
    .await;
}

#[tokio::test]
async fn a_database_has_one_first_key() {
    let database = Arc::new(database());
    reopened(On::Postgres, async || {
        Opened::in_postgres_at(&database).await
    })
    .await;
}

/// A server that asks for nothing makes none, and one that does makes it for a store that was used without.
#[tokio::test]
async fn a_server_that_asks_for_nothing_makes_no_key() {
    let served = Served::without_auth(On::Memory).await;
    assert_eq!(served.first_key, "");
    assert_eq!(keys(&served, "", "", 50).await, []);
    let who = caller(&served, "").await.unwrap();
    assert_eq!((who.name.as_str(), who.roles.len()), ("anonymous", 6));
    served.stop().await;
}
