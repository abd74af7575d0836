//! The route files that we ship load together, and make the jobs of their documented requests.

use std::{collections::BTreeMap, path::Path};

use longhaul::rest::routes::{Caller, Dialect, RouteInput, Routes};
use serde_json::{Value, json};

use super::rig::{through_the_api, whole_numbers};

fn examples() -> Routes {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/routes");
    Routes::load(&folder).unwrap_or_else(|error| panic!("{error}"))
}

/// The job that a request makes, and the dialect that answers.
fn job(method: &str, path: &str, query: &[(&str, &str)], body: Value) -> (Dialect, Value) {
    let routes = examples();
    let found = routes.find(method, path).unwrap().expect("a route");
    let input = RouteInput {
        body,
        path: found.path,
        query: query
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        caller: Caller {
            tenant: "acme".to_owned(),
            name: "jane".to_owned(),
        },
    };
    let job = found
        .route
        .render(&input)
        .unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(
        through_the_api(&job),
        whole_numbers(job.clone()),
        "canonical JSON of a JobSpec"
    );
    (found.route.dialect(), job)
}

#[test]
fn a_bucket_is_created_as_documented() {
    let (dialect, job) = job(
        "POST",
        "/v2.1/objectstorage/buckets",
        &[],
        json!({"name": "photos", "subtenant_id": "56842191736109485301"}),
    );
    assert_eq!(dialect, Dialect::Nse);
    assert_eq!(
        job,
        json!({
            "action": "create",
            "summary": "Create S3 bucket photos",
            "object": {"type": "sg_buckets", "name": "photos"},
            "labels": {"region": "us-east-1"},
            "creator": "jane",
            "tasks": [{
                "driver": "storagegrid_ansible",
                "resourceType": "sg_bucket",
                "maxAttempts": 3,
                "retryPolicy": {"initialBackoff": "5s", "maxBackoff": "120s"},
                "timeouts": {"startToClose": "600s"},
                "requestPayload": {
                    "s3_bucket_name": "photos",
                    "grid_account_id": "56842191736109485301",
                    "region": "us-east-1"
                }
            }]
        })
    );
}

#[test]
fn a_bucket_is_deleted_by_its_id() {
    let path = "/v2.1/objectstorage/buckets/photos%2F2026";
    let (_, job) = job("DELETE", path, &[], Value::Null);
    assert_eq!(job["object"]["id"], "photos/2026");
    assert_eq!(
        job["tasks"][0]["requestPayload"],
        json!({"bucket_id": "photos/2026"})
    );
}

#[test]
fn a_cluster_is_added_as_a_data_source() {
    let body =
        json!({"address": "10.0.0.9", "username": "admin", "password": "pw", "protocol": "HTTPS"});
    let (dialect, job) = job("POST", "/api/admin/datasources/clusters", &[], body);
    assert_eq!(dialect, Dialect::Aiqum);
    assert_eq!(
        job["tasks"][0]["requestPayload"],
        json!({
            "address": "10.0.0.9", "port": 443, "protocol": "https", "username": "admin", "password": "pw"
        })
    );
    assert_eq!(job["tasks"][1]["dependsOn"], json!(["connect"]));
}

#[test]
fn a_lun_is_created_and_mapped() {
    let maps = json!([{"igroup": {"key": "ig-1"}, "logical_unit_number": 3}]);
    let body = json!({
        "name": "db", "size": "21474836480", "os_type": "linux", "svm": {"key": "svm-1"}, "lun_maps": maps
    });
    let (dialect, job) = job("POST", "/api/storage-provider/luns", &[], body);
    assert_eq!(dialect, Dialect::Aiqum);
    assert_eq!(
        job["tasks"][0]["requestPayload"],
        json!({
            "name": "db", "size": 21_474_836_480_i64, "os_type": "linux", "svm_key": "svm-1",
            "performance_service_level_key": null
        })
    );
    assert_eq!(job["tasks"][1]["requestPayload"]["lun_maps"], maps);
}

#[test]
fn a_lun_is_deleted_by_its_key() {
    let (_, job) = job("DELETE", "/api/storage-provider/luns/k-1", &[], Value::Null);
    assert_eq!(job["summary"], "Delete LUN k-1");
}

#[test]
fn hosts_are_added_with_all_that_was_sent() {
    let hosts = json!([
        {"name": "h1", "hypervisor_type": "ESX", "username": "root", "password": "pw"},
        {"name": "h2", "hypervisor_type": "KVM"}
    ]);
    let (dialect, job) = job("POST", "/api/v3/hosts", &[], json!({"hosts": hosts}));
    assert_eq!(dialect, Dialect::Deploy);
    assert_eq!(job["summary"], "Add 2 host(s), h1 first");
    assert_eq!(job["tasks"][0]["requestPayload"]["hosts"], hosts);
}

#[test]
fn a_cluster_is_created_with_its_node_count_from_the_query_or_the_body() {
    let body = json!({
        "name": "c1", "ip": "10.0.0.1", "netmask": "255.255.255.0", "gateway": "10.0.0.254", "admin_password": "secret-pw",
        "nodes": [{"name": "n1", "ip": "10.0.0.2", "host": "h1"}]
    });
    let count = |query: &[(&str, &str)]| {
        let (_, job) = job("POST", "/api/v3/clusters", query, body.clone());
        job["tasks"][0]["requestPayload"]["node_count"].clone()
    };
    assert_eq!(count(&[]), 1);
    assert_eq!(count(&[("node_count", "4")]), 4);
}

#[test]
fn a_body_that_does_not_match_names_its_fields_and_not_its_secrets() {
    let routes = examples();
    let found = routes.find("POST", "/api/v3/clusters").unwrap().unwrap();
    let input = RouteInput {
        body: json!({"name": 7, "ip": "10.0.0.1", "netmask": "x", "gateway": "10.0.0.254", "admin_password": "hunter2",
            "nodes": [{"name": "n1", "ip": "10.0.0.2"}], "colour": "red"}),
        ..RouteInput::default()
    };
    let fault = found.route.render(&input).unwrap_err();
    let mut fields: Vec<_> = fault.violations.iter().map(|v| v.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "body.admin_password",
            "body.colour",
            "body.name",
            "body.netmask",
            "body.nodes[0].host"
        ]
    );
    assert!(!fault.to_string().contains("hunter2"), "{fault}");
}

#[test]
fn no_example_takes_a_path_of_the_server() {
    let builtin = [
        ("GET", "/api/management-server/jobs/{key}"),
        ("*", "/v1/{*rest}"),
        ("POST", "/api/v3/jobs"),
        ("POST", "/v2.1/jobs"),
    ];
    examples().check_against(&builtin).unwrap();
}
