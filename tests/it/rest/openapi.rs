//! The OpenAPI document, held against the server that serves it: it is whole, and answers are what it says.

mod document;

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::document::Document;
use super::web::{Reply, call, get, post};
use crate::harness::Server;

/// Dialects that have a collection of jobs: where, what the id is called in the path, how to ask for a job's end, and for a short page.
const COLLECTIONS: [(&str, &str, &str, &str); 7] = [
    (
        "/api/management-server/jobs",
        "{key}",
        "?return_timeout=60",
        "?max_records=1",
    ),
    (
        "/api/v2/management-server/jobs",
        "{key}",
        "?return_timeout=60",
        "?max_records=1",
    ),
    (
        "/management-server/jobs",
        "{key}",
        "?return_timeout=60",
        "?max_records=1",
    ),
    ("/api/jobs", "{id}", "?return_timeout=60", "?max_records=1"),
    (
        "/api/v3/jobs",
        "{id}",
        "?return_timeout=60",
        "?max_records=1",
    ),
    ("/v2.1/jobs", "{id}", "", "?limit=1"),
    ("/api/v2.1/jobs", "{id}", "", "?limit=1"),
];
/// The id of no job.
const UNKNOWN: &str = "01931b5e-7f3a-7cc3-98c4-dc0c0c07398f";

async fn start() -> (Server, Document) {
    let routes = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/routes");
    let server = Server::start_with(&["--routes", routes]).await;
    let document = get(&server, "/openapi.json").send().await.expect(200);
    (server, Document(document))
}

fn job(driver: &str) -> Value {
    json!({
        "action": "create",
        "summary": "Create S3 bucket photos",
        "object": {"type": "sg_buckets", "name": "photos"},
        "tasks": [
            {"driver": driver, "resourceType": "sg_bucket", "requestPayload": {"password": "hush"}},
            {"driver": driver},
        ],
    })
}

/// The id of a job, wherever the dialect has it.
fn id(answer: &Value) -> &str {
    let places = ["/id", "/key", "/job/id", "/job/key", "/result/records/0/id"];
    let mut ids = places.iter().filter_map(|place| answer.pointer(place));
    ids.find_map(Value::as_str)
        .unwrap_or_else(|| panic!("no id: {answer:#}"))
}

#[tokio::test]
async fn the_document_is_whole() {
    let (server, document) = start().await;
    assert_eq!(document.faults(), Vec::<String>::new());
    for (what, pointer, value) in [
        (
            "operationId",
            "/paths/~1v1~1jobs/get/operationId",
            json!("Submit"),
        ),
        (
            "nowhere",
            "/components/schemas/nse.Single/$ref",
            json!("#/nowhere"),
        ),
        ("{id}", "/paths/~1api~1jobs~1{id}/get/parameters", json!([])),
        ("a tag", "/paths/~1v1~1jobs/get/tags", json!(["None"])),
        (
            "schema",
            "/components/schemas/nse.Single/type",
            json!("thing"),
        ),
        (
            "example",
            "/paths/~1api~1jobs/get/responses/200/content/application~1json/example",
            json!(3),
        ),
    ] {
        let mut broken = document.0.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        broken.pointer_mut(parent).unwrap()[name] = value;
        let faults = Document(broken).faults();
        assert!(
            faults.iter().any(|fault| fault.contains(what)),
            "{what}: {faults:?}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn every_path_has_the_methods_that_the_document_says() {
    let (server, document) = start().await;
    for (path, described) in document.methods() {
        let mut at = path.clone();
        while let (Some(from), Some(to)) = (at.find('{'), at.find('}')) {
            at.replace_range(from..=to, "x");
        }
        let options = call(&server, "OPTIONS", &at).send().await;
        let served = options.header("allow").split(", ").map(str::to_owned);
        let served: BTreeSet<String> = served.filter(|m| m != "OPTIONS" && m != "HEAD").collect();
        assert_eq!(served, described, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_route_says_what_it_is_for_and_what_it_takes() {
    let (server, document) = start().await;
    let route = &document.0["paths"]["/api/storage-provider/luns"]["post"];
    assert_eq!(route["tags"], json!(["Routes"]));
    assert_eq!(
        route["summary"],
        "Creates a LUN in a storage VM by a performance service level, and maps it to initiator groups"
    );
    let body = &route["requestBody"]["content"]["application/json"]["schema"];
    let lun = |size: Value| json!({"name": "lun1", "size": size, "os_type": "linux", "svm": {"key": "svm1"}});
    // The schema has parts that it refers to, which are within the document now.
    assert_eq!(
        document.mismatches(body, &lun(json!("1024"))),
        Vec::<String>::new()
    );
    assert!(!document.mismatches(body, &lun(json!("a lot"))).is_empty());
    let mut no_svm = lun(json!(1024));
    no_svm["svm"] = json!({"name": "svm1"});
    assert!(!document.mismatches(body, &no_svm).is_empty());
    let key = &document.0["paths"]["/api/storage-provider/luns/{key}"]["delete"]["parameters"][0];
    assert_eq!((&key["name"], &key["in"]), (&json!("key"), &json!("path")));
    server.stop().await;
}

#[tokio::test]
async fn routes_of_any_form_are_described() {
    let folder = TempDir::new().unwrap();
    let schema = json!({"$id": "https://schemas.example/a", "title": "An A", "$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}});
    fs::write(folder.path().join("named.json"), schema.to_string()).unwrap();
    let older = json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
        "properties": {"a": {"$ref": "#/definitions/a"}}, "definitions": {"a": {"type": "integer"}}});
    fs::write(folder.path().join("older.json"), older.to_string()).unwrap();
    let route =
        |head: &str| format!("[[route]]\n{head}\naction = \"a\"\n[[route.task]]\ndriver = \"d\"\n");
    let routes = [
        "dialect = \"native\"\nmatch = \"POST /things/{thing}\"",
        "dialect = \"native\"\nmatch = \"DELETE /things/{id}\"\nsummary = \"Remove {{ path.id }}\"",
        "dialect = \"aiqum\"\nmatch = \"POST /things/a-b\"\nschema = \"named.json\"",
        "dialect = \"deploy\"\nmatch = \"PUT /things/a_b\"\nschema = \"older.json\"",
        "dialect = \"nse\"\nmatch = \"POST /things/a.b\"\nschema = \"older.json\"",
    ];
    fs::write(
        folder.path().join("routes.toml"),
        routes.map(route).concat(),
    )
    .unwrap();
    let server = Server::start_with(&["--routes", folder.path().to_str().unwrap()]).await;
    let document = Document(get(&server, "/openapi.json").send().await.expect(200));
    assert_eq!(document.faults(), Vec::<String>::new());
    let paths = &document.0["paths"];
    // Paths that differ in the names of their parameters alone are one.
    assert!(paths["/things/{id}"]["post"].is_object());
    let removal = &paths["/things/{id}"]["delete"]["description"];
    assert_eq!(removal, "Becomes a job: `Remove {{ path.id }}`");
    let schema = |method: &str, path: &str| {
        paths[path][method]["requestBody"]["content"]["application/json"]["schema"].clone()
    };
    // What can not be moved is left out; the server checks it all the same.
    assert_eq!(
        document.mismatches(&schema("post", "/things/a-b"), &json!(3)),
        Vec::<String>::new()
    );
    post(&server, "/things/a-b", &json!(3))
        .send()
        .await
        .expect(400);
    assert!(
        !document
            .mismatches(&schema("post", "/things/a.b"), &json!({"a": "x"}))
            .is_empty()
    );
    for method in ["POST", "DELETE"] {
        let reply = call(&server, method, "/things/7").send().await;
        assert_eq!(reply.status.as_u16(), 202, "{reply:?}");
        let wrong = document.wrong(&method.to_ascii_lowercase(), "/things/{id}", &reply);
        assert_eq!(wrong, Vec::<String>::new(), "{reply:?}");
    }
    server.stop().await;
}

/// What has been compared.
struct Checked<'a> {
    server: &'a Server,
    document: &'a Document,
    operations: BTreeSet<(String, String)>,
}

impl Checked<'_> {
    /// Compares an answer with what is said of it.
    #[track_caller]
    fn check(&mut self, method: &str, path: &str, status: u16, reply: &Reply) {
        assert_eq!(reply.status.as_u16(), status, "{method} {path}: {reply:?}");
        let wrong = self.document.wrong(method, path, reply);
        assert_eq!(wrong, Vec::<String>::new(), "{method} {path}: {reply:?}");
        self.operations.insert((method.to_owned(), path.to_owned()));
    }

    async fn get(&mut self, path: &str, at: &str, status: u16) {
        let reply = get(self.server, at).send().await;
        self.check("get", path, status, &reply);
    }

    async fn post(&mut self, path: &str, at: &str, body: Value, status: u16) -> Value {
        let reply = post(self.server, at, &body).send().await;
        self.check("post", path, status, &reply);
        reply.json()
    }

    /// All operations of a collection of jobs, and what can be wrong with requests.
    async fn collection(&mut self, jobs: &str, gap: &str, wait: &str, page: &str) {
        let server = self.server;
        let one = format!("{jobs}/{gap}");
        for (driver, status) in [("nobody", 202), ("good", 200), ("bad", 200)] {
            let submission = match status {
                202 => post(server, jobs, &job(driver)),
                // One of them waits by a parameter, the other one by a header.
                _ if wait.is_empty() => {
                    post(server, jobs, &job(driver)).header("prefer", "wait=60")
                }
                _ => post(server, &format!("{jobs}{wait}"), &job(driver)),
            };
            let submitted = submission.send().await;
            self.check("post", jobs, status, &submitted);
            let path = format!("{jobs}/{}", id(&submitted.json()));
            self.get(&one, &path, 200).await;
        }
        self.get(jobs, jobs, 200).await;
        self.get(jobs, &format!("{jobs}{page}"), 200).await;
        self.get(jobs, &format!("{jobs}?order_by=a%20b%20c"), 400)
            .await;
        self.get(&one, &format!("{jobs}/{UNKNOWN}"), 404).await;
        self.get(&one, &format!("{jobs}/{UNKNOWN}?no=1"), 400).await;
        self.post(jobs, jobs, json!({"tasks": []}), 400).await;
        let plain = call(server, "POST", jobs).body("{}").send().await;
        self.check("post", jobs, 415, &plain);
        let put = call(server, "PUT", jobs).send().await;
        self.check("post", jobs, 405, &put);
    }

    async fn route(&mut self, method: &str, path: &str, body: Value) {
        let at = path.replace("{key}", "k1").replace("{id}", "i1");
        let request = || match body.is_null() {
            true => call(self.server, method, &at),
            false => post(self.server, &at, &body),
        };
        let (accepted, cross) = (
            request().send().await,
            request()
                .header("sec-fetch-site", "cross-site")
                .send()
                .await,
        );
        let method = method.to_ascii_lowercase();
        self.check(&method, path, 202, &accepted);
        self.check(&method, path, 403, &cross);
        if method == "post" {
            self.post(path, path, json!({"name": 3}), 400).await;
        }
    }

    async fn native(&mut self) {
        let server = self.server;
        let one = "/v1/jobs/{job_id}";
        let made = self.post("/v1/jobs", "/v1/jobs", job("nobody"), 202).await;
        let at = format!("/v1/jobs/{}", made["id"].as_str().unwrap());
        self.get(one, &at, 200).await;
        let same = get(server, &at)
            .header("if-none-match", "\"1\"")
            .send()
            .await;
        self.check("get", one, 304, &same);
        self.get(one, &format!("/v1/jobs/{UNKNOWN}"), 404).await;
        self.get("/v1/jobs", "/v1/jobs?pageSize=2", 200).await;
        self.get("/v1/jobs", "/v1/jobs?filter=%3D", 400).await;
        self.get("/v1/jobs:counts", "/v1/jobs:counts", 200).await;
        self.get("/v1/jobs/{job_id}/events", &format!("{at}/events"), 200)
            .await;
        self.get("/v1/jobs/{job_id}:explain", &format!("{at}:explain"), 200)
            .await;
        self.get(
            "/v1/jobs/{job_id}:wait",
            &format!("{at}:wait?timeout=0.1s"),
            200,
        )
        .await;
        self.post(
            "/v1/jobs/{job_id}:retry",
            &format!("{at}:retry"),
            json!({}),
            202,
        )
        .await;
        self.post(
            "/v1/jobs/{job_id}:cancel",
            &format!("{at}:cancel"),
            json!({}),
            200,
        )
        .await;
        let deleted = call(server, "DELETE", &at).send().await;
        self.check("delete", one, 200, &deleted);
        let batch =
            json!({"requests": [{"requestId": "a", "job": job("own")}, {"job": {"priority": -1}}]});
        self.post("/v1/jobs:batch", "/v1/jobs:batch", batch, 200)
            .await;
        let (acquire, report) = ("/v1/workers:acquire", "/v1/workers:report");
        let leases = self
            .post(
                acquire,
                acquire,
                json!({"worker": "w", "drivers": ["own"]}),
                200,
            )
            .await;
        let token = &leases["leases"][0]["leaseToken"];
        let reports =
            json!({"reports": [{"leaseToken": token, "progress": {"progress": {"done": "1"}}}]});
        self.post(report, report, reports, 200).await;
        self.post(report, report, json!({"reports": 3}), 400).await;
        self.post(acquire, acquire, json!({}), 400).await;
        for what in ["pause", "resume"] {
            let path = format!("/v1/drivers/{{driver}}:{what}");
            self.post(&path, &format!("/v1/drivers/own:{what}"), json!({}), 200)
                .await;
        }
        for path in ["/v1/server", "/livez", "/readyz"] {
            self.get(path, path, 200).await;
        }
    }

    /// Tenants, keys, and the audit log.
    async fn access(&mut self) {
        let server = self.server;
        let (tenants, keys) = ("/v1/tenants", "/v1/keys");
        let acme = json!({"name": "acme", "quotas": {"openJobs": "9"}});
        self.post(tenants, tenants, acme.clone(), 200).await;
        self.post(tenants, tenants, acme, 409).await;
        let one = "/v1/tenants/{name}";
        for (name, status) in [("acme", 200), ("nobody", 404)] {
            let change = json!({"disabled": true}).to_string();
            let change = call(server, "PATCH", &format!("{tenants}/{name}")).body(change);
            let changed = change.header("content-type", "application/json");
            self.check("patch", one, status, &changed.send().await);
        }
        let key = json!({"tenant": "acme", "roles": ["ROLE_READ"], "name": "nina"});
        let made = self.post(keys, keys, key, 200).await;
        self.post(keys, keys, json!({"roles": []}), 400).await;
        let revoke = "/v1/keys:revoke";
        let id = json!({"keyId": made["key"]["keyId"]});
        self.post(revoke, revoke, id, 200).await;
        self.post(revoke, revoke, json!({"keyId": "a"}), 404).await;
        // A whole key is no id, and does not reach the audit log.
        let secret = made["secret"].as_str().unwrap();
        self.post(revoke, revoke, json!({"keyId": secret}), 400)
            .await;
        let rotate = "/v1/dataKeys:rotate";
        self.post(rotate, rotate, json!({}), 200).await;
        for path in [tenants, keys, "/v1/caller", "/v1/audit"] {
            self.get(path, path, 200).await;
        }
        let log = get(server, "/v1/audit?pageSize=1000").send().await;
        assert!(log.text.contains("RevokeKey") && !log.text.contains(secret));
    }
}

#[tokio::test]
async fn answers_are_what_the_document_says() {
    let (server, document) = start().await;
    let told = r#"{"result": {"made": true, "bytes": 3}}"#;
    let _good = server.worker("good", &[], &["echo", told]);
    let _bad = server.worker("bad", &[], &["sh", "-c", "echo no space >&2; exit 3"]);
    let mut checked = Checked {
        server: &server,
        document: &document,
        operations: BTreeSet::new(),
    };
    for (jobs, gap, wait, page) in COLLECTIONS {
        checked.collection(jobs, gap, wait, page).await;
    }
    let bucket = json!({"name": "photos", "subtenant_id": "5684"});
    let host = json!({"hosts": [{"name": "esx1.example", "hypervisor_type": "ESX"}]});
    let node = json!({"name": "n1", "ip": "192.0.2.2", "host": "esx1.example"});
    let cluster = json!({"name": "one", "ip": "192.0.2.1", "netmask": "255.255.255.0", "gateway": "192.0.2.254",
        "admin_password": "hush-hush", "nodes": [node]});
    let source = json!({"address": "cluster1.example", "username": "admin", "password": "hush"});
    let lun = json!({"name": "lun1", "size": 1024, "os_type": "linux", "svm": {"key": "svm1"}});
    for (method, path, body) in [
        ("POST", "/v2.1/objectstorage/buckets", bucket),
        ("DELETE", "/v2.1/objectstorage/buckets/{id}", Value::Null),
        ("POST", "/api/v3/hosts", host),
        ("POST", "/api/v3/clusters", cluster),
        ("POST", "/api/admin/datasources/clusters", source),
        (
            "DELETE",
            "/api/admin/datasources/clusters/{key}",
            Value::Null,
        ),
        ("POST", "/api/storage-provider/luns", lun),
        ("DELETE", "/api/storage-provider/luns/{key}", Value::Null),
    ] {
        checked.route(method, path, body).await;
    }
    checked.native().await;
    checked.access().await;
    let all = document
        .operations()
        .map(|(method, path, _)| (method.clone(), path.clone()));
    let left: Vec<_> = all
        .filter(|operation| !checked.operations.contains(operation))
        .collect();
    let streams = [
        "/v1/audit:watch",
        "/v1/jobs/{job_id}:watch",
        "/v1/jobs:watch",
    ];
    assert_eq!(
        left,
        streams.map(|path| ("get".to_owned(), path.to_owned()))
    );

    // An answer of another kind is told apart.
    let list = get(&server, "/v2.1/jobs").send().await;
    assert!(!document.wrong("get", "/api/jobs", &list).is_empty());
    server.stop().await;
}
