//! Credentials, and whose they are.

use comfy_table::{Cell, Table};
use jiff::Timestamp;
use longhaul::proto::v1::{GetCallerResponse, Key, Role};

use super::table;
use crate::cli::{
    text::{FAINT, cut, key_state, one_line, paint, role},
    time,
};

/// Characters of a key's name in a list.
const NAME_CHARS: usize = 24;
/// Characters of the column of names of facts, with a gap.
const FACT_CHARS: usize = 9;

/// Keys as rows of a table.
pub fn rows(keys: &[Key], now: Timestamp) -> Table {
    let mut rows = table::with_header(&[
        "KEY", "TENANT", "REACH", "ROLES", "DRIVERS", "STATE", "ENDS", "USED", "NAME",
    ]);
    for key in keys {
        rows.add_row([
            Cell::new(one_line(&key.key_id)),
            Cell::new(one_line(&key.tenant)),
            Cell::new(reach(key.all_tenants)),
            Cell::new(roles(key.roles())),
            Cell::new(drivers(&key.drivers, key.roles().any(|r| r == Role::Work))),
            table::coloured(key_state(
                ended(key.revoke_time.as_ref(), now),
                ended(key.expire_time.as_ref(), now),
            )),
            Cell::new(end(key, now)),
            Cell::new(used(key, now)),
            Cell::new(cut(&key.name, NAME_CHARS)),
        ]);
    }
    rows
}

/// What a new key is good for, on one line.
pub fn summary(key: &Key) -> String {
    let mut line = format!(
        "key {} of tenant {} has {}",
        one_line(&key.key_id),
        one_line(&key.tenant),
        roles(key.roles())
    );
    if !key.drivers.is_empty() {
        let drivers = drivers(&key.drivers, true);
        line.push_str(&format!(" for tasks of {drivers}"));
    }
    if key.all_tenants {
        line.push_str(", for all tenants");
    }
    if let Some(end) = time::instant(key.expire_time.as_ref()) {
        line.push_str(&format!(", until {}", time::to_the_second(end)));
    }
    line
}

/// Who the caller is, as the server sees it.
pub fn caller(caller: &GetCallerResponse) -> Vec<String> {
    let GetCallerResponse {
        name,
        tenant,
        roles: _,
        drivers: named,
        all_tenants,
    } = caller;
    let may = roles(caller.roles());
    let works = caller.roles().any(|role| role == Role::Work);
    let fact = |name: &str, value: &str| {
        let name = paint(FAINT, format_args!("{name:<FACT_CHARS$}"));
        format!("{name}{}", one_line(value))
    };
    let mut lines = vec![
        fact("name", name),
        fact("tenant", tenant),
        fact("roles", if may.is_empty() { "none" } else { &may }),
    ];
    if works {
        lines.push(fact("drivers", &drivers(named, works)));
    }
    let reach = match all_tenants {
        true => "all tenants, to work, administer and audit",
        false => "its tenant",
    };
    lines.push(fact("reach", reach));
    lines
}

fn roles(roles: impl Iterator<Item = Role>) -> String {
    roles.map(role).collect::<Vec<_>>().join(",")
}

fn drivers(drivers: &[String], works: bool) -> String {
    match (drivers.is_empty(), works) {
        (true, true) => "all".to_owned(),
        (true, false) => "-".to_owned(),
        (false, _) => one_line(&drivers.join(",")).into_owned(),
    }
}

fn reach(all_tenants: bool) -> &'static str {
    match all_tenants {
        true => "all",
        false => "own",
    }
}

fn ended(end: Option<&prost_types::Timestamp>, now: Timestamp) -> bool {
    time::instant(end).is_some_and(|end| end <= now)
}

fn end(key: &Key, now: Timestamp) -> String {
    match time::instant(key.expire_time.as_ref()) {
        None => "never".to_owned(),
        Some(end) if end <= now => format!("{} ago", time::between(end, now)),
        Some(end) => format!("in {}", time::between(now, end)),
    }
}

fn used(key: &Key, now: Timestamp) -> String {
    time::instant(key.last_used_time.as_ref()).map_or_else(
        || "never".to_owned(),
        |used| format!("{} ago", time::between(used, now)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::plain;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn keys_are_told_with_what_they_are_good_for() {
        let now = Timestamp::from_second(100).expect("an instant");
        let key = |id: &str, roles: &[Role]| Key {
            key_id: id.into(),
            tenant: "acme".into(),
            roles: roles.iter().map(|role| (*role).into()).collect(),
            ..Default::default()
        };
        let worker = Key {
            drivers: vec!["copy".into(), "move".into()],
            expire_time: at(400_000),
            last_used_time: at(40),
            ..key("a1", &[Role::Work])
        };
        let old = Key {
            expire_time: at(70),
            ..key("b2", &[Role::Submit, Role::Read])
        };
        let revoked = Key {
            revoke_time: at(50),
            all_tenants: true,
            name: "nina\nn".into(),
            ..key("c3", &[Role::Audit])
        };
        assert_eq!(
            summary(&worker),
            "key a1 of tenant acme has work for tasks of copy,move, until 1970-01-05T15:06:40Z"
        );
        assert_eq!(
            summary(&revoked),
            "key c3 of tenant acme has audit, for all tenants"
        );
        let lines = table::lines(&rows(&[worker, old, revoked], now));
        assert_eq!(
            plain(lines),
            [
                "KEY  TENANT  REACH  ROLES        DRIVERS    STATE    ENDS       USED       NAME",
                "a1   acme    own    work         copy,move  GOOD     in 4d 15h  1m 0s ago",
                "b2   acme    own    submit,read  -          EXPIRED  30s ago    never",
                "c3   acme    all    audit        -          REVOKED  never      never      nina n",
            ]
        );
    }

    #[test]
    fn a_caller_is_told_who_it_is() {
        let caller = GetCallerResponse {
            name: "key:a1".into(),
            tenant: "acme".into(),
            roles: vec![Role::Read.into(), Role::Work.into()],
            drivers: Vec::new(),
            all_tenants: false,
        };
        assert_eq!(
            plain(super::caller(&caller)),
            [
                "name     key:a1",
                "tenant   acme",
                "roles    read,work",
                "drivers  all",
                "reach    its tenant",
            ]
        );
    }
}
