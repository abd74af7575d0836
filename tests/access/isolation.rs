//! What belongs to one tenant, and another one that names it: by every field, token and header that may name something. It is told the same as if there were no
//! such thing.

use std::collections::BTreeSet;

use longhaul::proto::v1::{
    ListAuditRequest, ListAuditResponse, ListEventsRequest, ListEventsResponse, ListKeysRequest,
    ListKeysResponse, ListRequest, ListResponse, SubmitRequest, SubmitResponse, WatchJobsRequest,
    WatchJobsResponse,
};
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;
use uuid::Uuid;

use crate::{
    cast::{CANARY, Cast, OWN, cancel, spec, submit},
    contract::{Form, Method, forms, methods},
    matrix::{Wrong, assert_right},
    requests::{Foreign, escaped, good, grpc, http, refused_parts, shown},
    rest::COLLECTIONS,
    served::{On, Served, on_each_store, reason},
    wire::{Answer, Ask},
};

/// Two requests that differ by what they name: something of another tenant, or nothing.
struct Cell {
    /// As in `JobService.Get job_id`.
    name: String,
    foreign: Ask,
    nothing: Ask,
    /// What the one names, and the other.
    named: (String, String),
    told: Told,
    /// If it is a gRPC call.
    method: Option<Method>,
    may_last: bool,
}

/// What both are to be told, besides that it is the same.
#[derive(Clone, Debug)]
enum Told {
    /// An error with this code in gRPC and status in HTTP, and this reason.
    Error(Code, u16, &'static str),
    /// An error in a part of the answer.
    Part(&'static str),
    /// All is well, and there is nothing.
    Nothing,
    /// All is well, and it is not this that the answer is about. What one is told is not what the other is.
    Not(String),
}

/// An error in both protocols.
fn missing(reason: &'static str) -> Told {
    Told::Error(Code::NotFound, 404, reason)
}

fn bad() -> Told {
    Told::Error(Code::InvalidArgument, 400, "INVALID_REQUEST")
}

/// Gathers cells.
struct Cells<'a> {
    cast: &'a Cast,
    methods: Vec<Method>,
    forms: Vec<Form>,
    cells: Vec<Cell>,
}

impl<'a> Cells<'a> {
    fn new(cast: &'a Cast) -> Self {
        Self {
            cast,
            methods: methods(),
            forms: forms(),
            cells: Vec::new(),
        }
    }

    fn method(&self, name: &str) -> Method {
        let mut all = self.methods.iter();
        all.find(|method| method.name() == name).unwrap().clone()
    }

    /// A request of a method that names something in this field, over gRPC and in each of its forms.
    fn call(&mut self, name: &str, field: &str, message: &Value, named: (&str, &str), told: &Told) {
        let method = self.method(name);
        self.one(&method, None, field, message, named, told);
        for form in self.forms_of(name) {
            self.one(&method, Some(&form), field, message, named, told);
        }
    }

    fn forms_of(&self, name: &str) -> Vec<Form> {
        let forms = self.forms.iter();
        let forms = forms.filter(|form| form.method.name() == name);
        forms.cloned().collect()
    }

    /// The same over gRPC, or in one form.
    fn one(
        &mut self,
        method: &Method,
        form: Option<&Form>,
        field: &str,
        message: &Value,
        named: (&str, &str),
        told: &Told,
    ) {
        let text = message.to_string();
        let nothing: Value = serde_json::from_str(&text.replace(named.0, named.1)).unwrap();
        assert_ne!(*message, nothing, "nothing is named {}", named.0);
        let ask = |message| match form {
            Some(form) => http(form, message),
            None => grpc(method, message),
        };
        self.cells.push(Cell {
            name: match form {
                Some(form) => format!("{} {} {field}", form.verb, form.path),
                None => format!("{} {field}", method.name()),
            },
            foreign: ask(message),
            nothing: ask(&nothing),
            named: (named.0.to_owned(), named.1.to_owned()),
            told: told.clone(),
            may_last: method.may_last(),
            method: form.is_none().then(|| method.clone()),
        });
    }

    /// A plain request that names something, where it says `{}`.
    fn plain(&mut self, name: &str, ask: &dyn Fn(&str) -> Ask, named: (&str, &str), told: Told) {
        self.cells.push(Cell {
            name: name.to_owned(),
            foreign: ask(named.0),
            nothing: ask(named.1),
            named: (named.0.to_owned(), named.1.to_owned()),
            told,
            method: None,
            may_last: false,
        });
    }
}

/// The fields that make a method be about one thing.
async fn of_things(cells: &mut Cells<'_>) {
    for method in cells.methods.clone() {
        let forms = cells.forms_of(&method.name()).into_iter().map(Some);
        // Each of them may use the thing up.
        for form in std::iter::once(None).chain(forms) {
            of_thing(cells, &method, form.as_ref()).await;
        }
    }
}

async fn of_thing(cells: &mut Cells<'_>, method: &Method, form: Option<&Form>) {
    let asked = good(cells.cast, &method.name()).await;
    let Some(foreign) = asked.foreign else {
        return;
    };
    let (field, id, told) = match foreign {
        Foreign::Job => ("job_id", &asked.message["job_id"], missing("JOB_NOT_FOUND")),
        Foreign::Key => ("key_id", &asked.message["key_id"], missing("KEY_NOT_FOUND")),
        Foreign::Lease => {
            let token = &asked.message["reports"][0]["lease_token"];
            ("reports.lease_token", token, Told::Part("LEASE_LOST"))
        }
    };
    let id = id.as_str().unwrap();
    let nothing = match foreign {
        Foreign::Job => Uuid::now_v7().to_string(),
        Foreign::Key => "0123456789abcdef".to_owned(),
        Foreign::Lease => id.chars().rev().collect(),
    };
    cells.one(method, form, field, &asked.message, (id, &nothing), &told);
}

/// Parents, filters, tenants, and ids of requests.
async fn of_names(cells: &mut Cells<'_>) {
    let cast = cells.cast;
    let parent = cast.job().await.id;
    let child = submit(&cast.served, &cast.owner, "nobody", &parent).await;
    let nobody = Uuid::now_v7().to_string();
    let named = (parent.as_str(), nobody.as_str());
    let task = json!([{"driver": "nobody"}]);
    let job = json!({"parent_job_id": parent, "tasks": task});
    let told = missing("PARENT_NOT_FOUND");
    cells.call(
        "JobService.Submit",
        "job.parent_job_id",
        &json!({"job": job}),
        named,
        &told,
    );
    let batch = json!({"requests": [{"job": job}]});
    let told = Told::Part("PARENT_NOT_FOUND");
    cells.call(
        "JobService.SubmitBatch",
        "requests.job.parent_job_id",
        &batch,
        named,
        &told,
    );
    for (field, id) in [("parent_job_id", &parent), ("job_id", &child.id)] {
        let filter = json!({"filter": format!("{field} = \"{id}\"")});
        let named = (id.as_str(), nobody.as_str());
        let name = format!("filter {field}");
        cells.call("JobService.List", &name, &filter, named, &Told::Nothing);
    }

    let named = (OWN, "none");
    let told = missing("TENANT_NOT_FOUND");
    let tenant = json!({"tenant": OWN});
    for method in ["ListKeys", "ListAudit", "WatchAudit"] {
        cells.call(
            &format!("AdminService.{method}"),
            "tenant",
            &tenant,
            named,
            &told,
        );
    }
    let key = json!({"tenant": OWN, "roles": ["ROLE_READ"]});
    cells.call("AdminService.CreateKey", "tenant", &key, named, &told);

    let fresh = Uuid::now_v7().to_string();
    let (used, not_that) = used_id(cast).await;
    let named = (used.as_str(), fresh.as_str());
    let job = json!({"summary": CANARY, "tasks": task});
    let request = json!({"job": job, "request_id": used});
    cells.call(
        "JobService.Submit",
        "request_id",
        &request,
        named,
        &not_that,
    );
    let batch = json!({"requests": [request]});
    cells.call(
        "JobService.SubmitBatch",
        "requests.request_id",
        &batch,
        named,
        &not_that,
    );
    let ended = submit(&cast.served, &cast.other, "nobody", "").await.id;
    cancel(&cast.served, &cast.other, &ended).await.unwrap();
    let (of_retry, not_its) = used_id(cast).await;
    let retry = json!({"job_id": ended, "request_id": of_retry});
    let of_retry = (of_retry.as_str(), fresh.as_str());
    cells.call("JobService.Retry", "request_id", &retry, of_retry, &not_its);
    for (collection, _, _) in COLLECTIONS {
        let ask = |key: &str| {
            let ask = Ask::http("POST", collection).json(&job);
            ask.with("idempotency-key", key)
        };
        let name = format!("POST {collection} Idempotency-Key");
        cells.plain(&name, &ask, named, not_that.clone());
    }
}

/// The id of a request of the owner, and that it is not its job that others are told of.
async fn used_id(cast: &Cast) -> (String, Told) {
    let request_id = Uuid::now_v7().to_string();
    let request = SubmitRequest {
        job: Some(spec("nobody")),
        request_id: request_id.clone(),
    };
    let stored = cast.served.call(&cast.owner, "JobService/Submit", &request);
    let stored: SubmitResponse = stored.await.unwrap();
    (request_id, Told::Not(stored.job.unwrap().id))
}

/// What one is given to go on from.
async fn of_tokens(cells: &mut Cells<'_>) {
    let cast = cells.cast;
    let (served, key) = (&cast.served, cast.owner.as_str());
    let (first, second) = (cast.job().await.id, cast.job().await.id);
    cancel(served, key, &first).await.unwrap();
    cancel(served, key, &second).await.unwrap();
    let request = ListRequest {
        page_size: 1,
        ..ListRequest::default()
    };
    let page: ListResponse = served.call(key, "JobService/List", &request).await.unwrap();
    let message = json!({"page_size": 1, "page_token": page.next_page_token});
    of_token(cells, "JobService.List", "page_token", &message);

    let request = ListEventsRequest {
        job_id: first.clone(),
        page_size: 1,
        ..ListEventsRequest::default()
    };
    let page = served.call(key, "JobService/ListEvents", &request);
    let page: ListEventsResponse = page.await.unwrap();
    // In the control the job is the one that the token is for; otherwise it is one that the caller may read.
    let own = match cast.other_is_own {
        true => first,
        false => submit(served, &cast.other, "nobody", "").await.id,
    };
    let message = json!({"job_id": own, "page_size": 1, "page_token": page.next_page_token});
    of_token(cells, "JobService.ListEvents", "page_token", &message);

    let request = ListKeysRequest {
        page_size: 1,
        ..ListKeysRequest::default()
    };
    let page = served.call(key, "AdminService/ListKeys", &request);
    let page: ListKeysResponse = page.await.unwrap();
    let message = json!({"page_size": 1, "page_token": page.next_page_token});
    of_token(cells, "AdminService.ListKeys", "page_token", &message);

    let request = ListAuditRequest {
        page_size: 1,
        ..ListAuditRequest::default()
    };
    let page = served.call(key, "AdminService/ListAudit", &request);
    let page: ListAuditResponse = page.await.unwrap();
    let message = json!({"page_size": 1, "page_token": page.next_page_token});
    of_token(cells, "AdminService.ListAudit", "page_token", &message);

    let cursor = cursor(cast, key).await;
    of_token(
        cells,
        "JobService.WatchJobs",
        "cursor",
        &json!({"cursor": cursor}),
    );
    let mangled = mangled(&cursor);
    for path in ["/v1/jobs:watch", "/v1/jobs"] {
        let ask = |id: &str| {
            let ask = Ask::http("GET", path).with("accept", "text/event-stream");
            ask.with("last-event-id", id)
        };
        let name = format!("GET {path} Last-Event-ID");
        cells.plain(&name, &ask, (&cursor, &mangled), bad());
        cells.cells.last_mut().unwrap().may_last = true;
    }
    of_links(cells).await;
}

fn of_token(cells: &mut Cells<'_>, method: &str, field: &str, message: &Value) {
    let token = message[field].as_str().unwrap();
    assert_ne!(token, "", "{method} has a token");
    let nothing = mangled(token);
    cells.call(method, field, message, (token, &nothing), &bad());
}

/// The same token, but for one character in its middle.
fn mangled(token: &str) -> String {
    let (before, after) = token.split_at(token.len() / 2);
    let other = if after.starts_with('A') { "B" } else { "A" };
    format!("{before}{other}{}", &after[1..])
}

/// Where the owner's changes have come to.
pub async fn cursor(cast: &Cast, key: &str) -> String {
    let request = WatchJobsRequest::default().encode_to_vec();
    let ask = Ask::grpc("/longhaul.v1.JobService/WatchJobs", &request).key(key);
    let mut follow = cast.served.wire().open(&ask).await;
    loop {
        let said = follow.first().await;
        said.grpc().unwrap();
        for message in said.messages() {
            let message = WatchJobsResponse::decode(message).unwrap();
            if !message.cursor.is_empty() {
                return message.cursor;
            }
        }
    }
}

/// The links from a page of a dialect's list to the next one.
async fn of_links(cells: &mut Cells<'_>) {
    let cast = cells.cast;
    for (collection, limit) in [
        ("/api/management-server/jobs", "max_records"),
        ("/api/v2/management-server/jobs", "max_records"),
        ("/management-server/jobs", "max_records"),
        ("/api/v2.1/jobs", "limit"),
        ("/v2.1/jobs", "limit"),
    ] {
        let ask = Ask::http("GET", &format!("{collection}?{limit}=1")).key(&cast.owner);
        let page = cast.served.wire().ask(&ask, false).await;
        let link = match page.header("link") {
            "" => page.json()["_links"]["next"]["href"]
                .as_str()
                .unwrap()
                .to_owned(),
            link => link[1..].split('>').next().unwrap().to_owned(),
        };
        let (_, token) = link.split_once("page_token=").unwrap();
        let nothing = mangled(token);
        let ask = |named: &str| Ask::http("GET", &link.replace(token, named));
        let name = format!("GET {collection} page_token");
        cells.plain(&name, &ask, (token, &nothing), bad());
    }
}

/// Jobs in the paths of the dialects, and what else only they have.
async fn of_dialects(cells: &mut Cells<'_>) {
    let nobody = Uuid::now_v7().to_string();
    let cast = cells.cast;
    for (collection, gap, _) in COLLECTIONS {
        let id = cast.job().await.id;
        for (wait, name) in [("", ""), ("wait=1", " with a wait")] {
            let ask = |id: &str| {
                let ask = Ask::http("GET", &format!("{collection}/{id}"));
                match wait {
                    "" => ask,
                    wait => ask.with("prefer", wait),
                }
            };
            let name = format!("GET {collection}/{gap}{name}");
            cells.plain(&name, &ask, (&id, &nobody), missing("JOB_NOT_FOUND"));
        }
    }
    for collection in ["/v2.1/jobs", "/api/v2.1/jobs"] {
        let ask = |tenant: &str| {
            let tenant = escaped(tenant);
            Ask::http("GET", &format!("{collection}?tenant_id={tenant}"))
        };
        let name = format!("GET {collection} tenant_id");
        let named = (OWN, "none");
        cells.plain(&name, &ask, named, Told::Nothing);
        let id = cast.job().await.id;
        let ask = |id: &str| Ask::http("GET", &format!("{collection}/{id}?tenant_id={OWN}"));
        let name = format!("GET {collection}/{{id}} tenant_id");
        cells.plain(&name, &ask, (&id, &nobody), missing("JOB_NOT_FOUND"));
    }
}

async fn all(cast: &Cast) -> Vec<Cell> {
    let mut cells = Cells::new(cast);
    of_things(&mut cells).await;
    of_names(&mut cells).await;
    of_tokens(&mut cells).await;
    of_dialects(&mut cells).await;
    cells.cells
}

/// The names of all cells.
pub async fn names(cast: &Cast) -> BTreeSet<String> {
    all(cast).await.into_iter().map(|cell| cell.name).collect()
}

/// An answer without what is another one each time, and with what was named in place of each other.
fn neutral(answer: &Answer, method: Option<&Method>, named: &str) -> String {
    let mut headers = answer.headers.clone();
    for changing in [
        "date",
        "request-id",
        "content-length",
        "grpc-message",
        "grpc-status-details-bin",
    ] {
        headers.remove(changing);
    }
    // What gRPC says in base64.
    let details = answer.grpc_details();
    let said = match method {
        Some(method) => shown(method, answer),
        None => answer.text(),
    };
    let text = format!("{} {headers:?} {said} {details}", answer.status);
    text.replace(named, "IT").replace(&escaped(named), "IT")
}

impl Cell {
    /// What is wrong with what somebody else is told, if anything is.
    async fn check(&self, cast: &Cast) -> Option<String> {
        let wire = cast.served.wire();
        let key = cast.other.as_str();
        let foreign = wire
            .ask(&self.foreign.clone().key(key), self.may_last)
            .await;
        if let Told::Not(job) = &self.told {
            let is_well = self.is_well(&foreign) && !foreign.text().contains(job);
            return (!is_well).then(|| format!("{foreign:?}"));
        }
        let nothing = wire
            .ask(&self.nothing.clone().key(key), self.may_last)
            .await;
        let same = neutral(&foreign, self.method.as_ref(), &self.named.0)
            == neutral(&nothing, self.method.as_ref(), &self.named.1);
        if !same || !self.is_told(&foreign) {
            return Some(format!(
                "{foreign:?}\ninstead of, as of what is not there,\n{nothing:?}"
            ));
        }
        None
    }

    fn is_well(&self, answer: &Answer) -> bool {
        match &self.method {
            Some(method) => {
                answer.grpc().is_ok() && refused_parts(method, answer.messages()[0]).is_empty()
            }
            None => (200..300).contains(&answer.status),
        }
    }

    fn is_told(&self, answer: &Answer) -> bool {
        match (&self.told, &self.method) {
            (Told::Error(code, _, expected), Some(_)) => {
                let refused = answer.grpc();
                refused.is_err_and(|e| e.code() == *code && reason(&e) == *expected)
            }
            (Told::Error(_, status, _), None) => answer.status == *status,
            (Told::Part(expected), Some(method)) => {
                answer.grpc().is_ok() && refused_parts(method, answer.messages()[0]) == [*expected]
            }
            (Told::Part(expected), None) => {
                answer.status == 200 && answer.text().contains(expected)
            }
            (Told::Nothing | Told::Not(_), _) => self.is_well(answer),
        }
    }
}

async fn check(cast: &Cast) -> (Vec<Wrong>, BTreeSet<String>) {
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for cell in all(cast).await {
        names.insert(cell.name.clone());
        if let Some(told) = cell.check(cast).await {
            let cell = cell.name;
            wrong.push(Wrong { cell, told });
        }
    }
    (wrong, names)
}

async fn what_is_anothers_is_as_if_it_were_not_there(on: On) {
    let cast = Cast::on(on).await;
    let (wrong, names) = check(&cast).await;
    assert_right(&wrong);
    assert!(names.len() > 80, "{}", names.len());
    cast.served.stop().await;
}

on_each_store!(what_is_anothers_is_as_if_it_were_not_there);

/// The control: with a key of the same tenant every cell is found to be open.
#[tokio::test]
async fn a_key_of_the_same_tenant_is_found_out() {
    let served = Served::on(On::Memory).await;
    let cast = Cast::of(served, OWN).await;
    let (wrong, names) = check(&cast).await;
    let wrong: BTreeSet<_> = wrong.into_iter().map(|wrong| wrong.cell).collect();
    let missed: Vec<_> = names.difference(&wrong).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    cast.served.stop().await;
}
