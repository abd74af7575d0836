//! The documented systems: the asynchronous call of each as `examples/routes` has it, and the shapes in which each answers.

use serde_json::{Value, json};

use super::super::web::Reply;
use crate::harness::Server;

/// In whose words a system answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    Aiqum,
    Deploy,
    Nse,
    Native,
}

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Good,
    /// Some of its tasks succeed.
    Half,
    Bad,
}

/// A documented system.
pub struct System {
    pub words: Words,
    /// Where its asynchronous call goes; all are POST.
    pub path: &'static str,
    pub driver: &'static str,
    /// Its tasks.
    pub tasks: &'static [&'static str],
    /// The body of the call, about a thing of this name.
    pub body: fn(&str) -> Value,
    /// Where its documents say that jobs are, with the parameters of a long poll if these are in the query.
    pub jobs: &'static [&'static str],
}

pub const AIQUM: System = System {
    words: Words::Aiqum,
    path: "/api/admin/datasources/clusters",
    driver: "ontap_monitor",
    tasks: &["connect", "take_stock"],
    body: |name| json!({"address": name, "username": "admin", "password": "hush-hush", "port": 443}),
    jobs: &["/management-server/jobs", "/api/management-server/jobs"],
};

pub const AIQUM_9_8: System = System {
    words: Words::Aiqum,
    path: "/api/storage-provider/luns",
    driver: "ontap_provisioner",
    tasks: &["create", "map"],
    body: |name| {
        json!({
            "name": name, "size": "1048576", "os_type": "linux", "svm": {"key": "svm-1"},
            "lun_maps": [{"igroup": {"key": "ig-1"}, "logical_unit_number": 0}],
        })
    },
    jobs: &["/management-server/jobs", "/api/v2/management-server/jobs"],
};

pub const DEPLOY: System = System {
    words: Words::Deploy,
    path: "/api/v3/clusters",
    driver: "select_deploy",
    tasks: &["configure", "deploy"],
    body: |name| {
        json!({
            "name": name, "ip": "10.0.0.1", "netmask": "255.255.255.0", "gateway": "10.0.0.254", "admin_password": "hush-hush",
            "nodes": [{"name": "n1", "ip": "10.0.0.2", "host": "h1"}],
        })
    },
    jobs: &["/api/v3/jobs", "/api/jobs"],
};

pub const NSE: System = System {
    words: Words::Nse,
    path: "/v2.1/objectstorage/buckets",
    driver: "storagegrid_ansible",
    tasks: &["task-1"],
    body: |name| json!({"name": name, "subtenant_id": "5e7c3af7ab46c00014ce877f"}),
    jobs: &["/v2.1/jobs", "/api/v2.1/jobs"],
};

pub const ALL: [System; 4] = [AIQUM, AIQUM_9_8, DEPLOY, NSE];

impl System {
    /// Whether a job of it can end so.
    pub fn can_end(&self, end: End) -> bool {
        end != End::Half || self.tasks.len() > 1
    }
}

impl Words {
    /// The id of the job in a 202, which has to be in the documented shape and lead to the job.
    #[track_caller]
    pub fn accepted(self, server: &Server, reply: &Reply) -> (String, String) {
        let body = reply.expect(202);
        let members: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(reply.header("etag"), "\"1\"");
        let location = reply.header("location");
        let place = location.strip_prefix(&server.endpoint());
        let (id, place) = match self {
            Self::Aiqum => {
                assert_eq!(members, ["job"]);
                let (key, link) = (&body["job"]["key"], &body["job"]["_links"]["self"]["href"]);
                let shape = json!({"job": {"key": key, "_links": {"self": {"href": link}}}});
                assert_eq!(body, shape);
                assert_eq!(link, location);
                (key, location)
            }
            Self::Deploy => {
                assert_eq!(members, ["job"]);
                let job = &body["job"];
                let names: Vec<&String> = job.as_object().unwrap().keys().collect();
                let expected = ["_links", "id", "last_modified", "message", "state"];
                assert_eq!(names, expected);
                assert_eq!(job["state"], "queued");
                let place = place.expect("an absolute address");
                assert_eq!(job["_links"]["self"]["href"], place);
                assert!(!reply.header("request-id").is_empty());
                (&job["id"], place)
            }
            Self::Nse => {
                assert_eq!(members, ["result", "status"]);
                let status = json!({"user_message": "Okay. Accepted for processing.", "verbose_message": "", "code": 202});
                assert_eq!(body["status"], status);
                assert_eq!(body["result"]["total_records"], 1);
                let job = &body["result"]["records"][0];
                assert_eq!(
                    (&job["status"], &job["job_tasks"]),
                    (&json!("pending"), &Value::Null)
                );
                (&job["id"], location)
            }
            Self::Native => {
                assert_eq!(body["state"], "STATE_QUEUED");
                (&body["id"], location)
            }
        };
        let id = id.as_str().unwrap().to_owned();
        assert!(place.ends_with(&format!("/{id}")), "{place}");
        (id, place.to_owned())
    }

    /// The record of an answer about one job; `GET` and a call that was waited for have different covers.
    #[track_caller]
    pub fn record(self, reply: &Reply) -> Value {
        let mut body = reply.expect(200);
        match self {
            Self::Aiqum | Self::Native => body,
            Self::Deploy => match body.get("job") {
                Some(job) => job.clone(),
                None => body["record"].take(),
            },
            Self::Nse => {
                assert_eq!(body["status"]["user_message"], "Okay. Returned 1 record.");
                body["result"]["records"][0].take()
            }
        }
    }

    /// How the job of a record has ended, by the words that the documents tell clients to wait for.
    #[track_caller]
    pub fn end(self, record: &Value, place: &str) -> Option<End> {
        let word = |field: &str| record[field].as_str().unwrap().to_owned();
        let is_documented = place.starts_with("/management-server/");
        let outcome = match self {
            Self::Aiqum if !is_documented => match word("state").as_str() {
                "completed" => word("status").to_ascii_uppercase(),
                "queued" | "running" => return None,
                other => panic!("{other}: {record}"),
            },
            Self::Aiqum | Self::Nse => word("state"),
            Self::Deploy => match word("state").as_str() {
                "success" => "NORMAL".to_owned(),
                "failure" if word("message").contains(" of ") => "PARTIAL_FAILURES".to_owned(),
                "failure" => "ERROR".to_owned(),
                other => other.to_ascii_uppercase(),
            },
            Self::Native => panic!("not a documented system"),
        };
        match outcome.as_str() {
            "NORMAL" => Some(End::Good),
            "PARTIAL_FAILURES" => Some(End::Half),
            "ERROR" => Some(End::Bad),
            "QUEUED" | "RUNNING" => None,
            other => panic!("{other}: {record}"),
        }
    }

    /// The message of an error, which has to be in the documented shape. `about` is the first bad part of the request.
    #[track_caller]
    pub fn error(self, reply: &Reply, status: u16, about: Option<&str>) -> String {
        let body = reply.expect(status);
        let (message, target) = match self {
            Self::Aiqum | Self::Deploy => {
                let error = &body["error"];
                let shape = json!({"code": error["code"], "message": error["message"], "target": error["target"]});
                assert_eq!(body, json!({"error": shape}));
                assert!(error["code"].is_string(), "{body}");
                (&error["message"], error["target"].as_str())
            }
            Self::Nse => {
                let said = &body["status"]["user_message"];
                let status = json!({"user_message": said, "verbose_message": "", "code": status});
                assert_eq!(body, json!({"status": status, "result": null}));
                (said, None)
            }
            Self::Native => {
                assert_eq!(reply.header("content-type"), "application/problem+json");
                assert_eq!(body["status"], status);
                (&body["detail"], body["violations"][0]["field"].as_str())
            }
        };
        let kind = reply.header("content-type");
        assert!(self == Self::Native || kind == "application/json", "{kind}");
        let message = message.as_str().unwrap();
        assert!(!message.is_empty());
        if let Some(about) = about {
            let named = match self {
                Self::Nse => message.contains(about),
                _ => target.is_some_and(|target| target.starts_with(about)),
            };
            assert!(named, "{about}: {body}");
        }
        message.to_owned()
    }
}
