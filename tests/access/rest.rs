//! Every route of plain HTTP, with every credential: those of the contract as its methods say, those of the dialects by the table below, which is complete or
//! fails, configured ones, and what the server says of itself. Who is turned away is told so in the words of the dialect.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    cast::{CANARY, Cast, OTHER, Who},
    contract::{Asks, forms},
    matrix::{Fate, Wrong, assert_right, fate, world},
    requests::{Foreign, good, http},
    served::{On, ROUTES, Served, on_each_store},
    wire::{Answer, Ask},
};
use longhaul::proto::v1::Role;

/// Whose words an answer is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    Native,
    Aiqum,
    Deploy,
    Nse,
}

/// What is sent to a route.
#[derive(Clone, Debug)]
enum Sent {
    /// The method's own request, in this form.
    Form(usize),
    /// Nothing.
    Nothing,
    /// A job.
    Spec,
    /// A job's id stands in the gap of the path.
    Job,
    /// Something stands in the gap.
    Word(&'static str),
    /// The same, and an object is sent.
    WordAndObject,
}

/// A route, and what is to be known of it.
#[derive(Clone, Debug)]
struct Route {
    verb: String,
    path: String,
    asks: Asks,
    sent: Sent,
    /// Whose words somebody who is not known is told in, and whose everybody else.
    words: (Words, Words),
}

/// Collections of jobs of the dialects: all of them have the same three routes.
pub const COLLECTIONS: [(&str, &str, Words); 7] = [
    ("/api/management-server/jobs", "{key}", Words::Aiqum),
    ("/api/v2/management-server/jobs", "{key}", Words::Aiqum),
    ("/management-server/jobs", "{key}", Words::Aiqum),
    ("/api/jobs", "{id}", Words::Deploy),
    ("/api/v3/jobs", "{id}", Words::Deploy),
    ("/v2.1/jobs", "{id}", Words::Nse),
    ("/api/v2.1/jobs", "{id}", Words::Nse),
];

fn native(verb: &str, path: &str, asks: Asks, sent: Sent) -> Route {
    Route {
        verb: verb.to_owned(),
        path: path.to_owned(),
        asks,
        sent,
        words: (Words::Native, Words::Native),
    }
}

/// What is served beside the contract: this table is all that says so here.
fn of_dialects() -> Vec<Route> {
    let read = Asks::Role(Role::Read);
    let submit = Asks::Role(Role::Submit);
    let mut routes = Vec::new();
    for (collection, gap, words) in COLLECTIONS {
        let words = (words, words);
        let one = format!("{collection}/{gap}");
        for (verb, path, asks, sent) in [
            ("GET", collection, read, Sent::Nothing),
            ("POST", collection, submit, Sent::Spec),
            ("GET", &one, read, Sent::Job),
        ] {
            routes.push(Route {
                words,
                ..native(verb, path, asks, sent)
            });
        }
    }
    routes.extend([
        native("GET", "/livez", Asks::Nothing, Sent::Nothing),
        native("GET", "/readyz", Asks::Nothing, Sent::Nothing),
    ]);
    routes
}

/// What is served and does not stand in the server's description.
fn undescribed() -> Vec<Route> {
    let known = Asks::Credential;
    vec![
        native("GET", "/", known, Sent::Nothing),
        native("GET", "/docs", known, Sent::Nothing),
        native("GET", "/docs/{file}", known, Sent::Word("index.html")),
        native("GET", "/docs/", known, Sent::Nothing),
        native("GET", "/openapi.json", known, Sent::Nothing),
    ]
}

fn of_contract() -> Vec<Route> {
    let forms = forms().into_iter().enumerate();
    let routes = forms.map(|(n, form)| {
        let asks = form.method.asks;
        native(&form.verb, &form.path, asks, Sent::Form(n))
    });
    routes.collect()
}

/// Who is not known is not told which dialect a route speaks that somebody configured: the beginning of the path alone decides.
fn configured() -> Vec<Route> {
    let routes = ROUTES.into_iter().map(|(dialect, path)| {
        let spoken = |dialect: &str| match dialect {
            "aiqum" => Words::Aiqum,
            "deploy" => Words::Deploy,
            "nse" => Words::Nse,
            _ => Words::Native,
        };
        let of_unknown = match dialect {
            "aiqum" => Words::Native,
            other => spoken(other),
        };
        Route {
            words: (of_unknown, spoken(dialect)),
            ..native("POST", path, Asks::Role(Role::Submit), Sent::WordAndObject)
        }
    });
    routes.collect()
}

fn filled(path: &str, word: &str) -> String {
    match (path.find('{'), path.find('}')) {
        (Some(begin), Some(end)) => format!("{}{word}{}", &path[..begin], &path[end + 1..]),
        _ => path.to_owned(),
    }
}

impl Route {
    fn name(&self) -> String {
        format!("{} {}", self.verb, self.path)
    }

    /// A good request, and what it is about.
    async fn good(&self, cast: &Cast) -> (Ask, Option<Foreign>) {
        match self.sent {
            Sent::Form(n) => {
                let form = &forms()[n];
                let asked = good(cast, &form.method.name()).await;
                (http(form, &asked.message), asked.foreign)
            }
            Sent::Nothing => (Ask::http(&self.verb, &self.path), None),
            Sent::Spec => {
                let spec = json!({"summary": CANARY, "tasks": [{"driver": "nobody"}]});
                (Ask::http(&self.verb, &self.path).json(&spec), None)
            }
            Sent::Job => {
                let path = filled(&self.path, &cast.job().await.id);
                (Ask::http(&self.verb, &path), Some(Foreign::Job))
            }
            Sent::Word(word) => (Ask::http(&self.verb, &filled(&self.path, word)), None),
            Sent::WordAndObject => {
                let path = filled(&self.path, "7");
                (Ask::http(&self.verb, &path).json(&json!({})), None)
            }
        }
    }

    fn may_last(&self) -> bool {
        match self.sent {
            Sent::Form(n) => forms()[n].method.may_last(),
            _ => false,
        }
    }
}

/// What is wrong with an answer, if anything is.
fn wrong_with(answer: &Answer, route: &Route, fate: Fate) -> Option<String> {
    let (of_unknown, of_others) = route.words;
    let is_told = |status: u16, reason: &str, words: Words| {
        let is_right = answer.status == status && is_said(answer, reason, words);
        (!is_right).then(|| format!("not {status} {reason} in {words:?}: {answer:?}"))
    };
    match fate {
        Fate::Done => {
            let is_done = (200..400).contains(&answer.status);
            let has_refused =
                route.path.ends_with(":report") && answer.text().contains("LEASE_LOST");
            (!is_done || has_refused).then(|| format!("not done: {answer:?}"))
        }
        Fate::Unknown(reason) => {
            let schemes = answer.headers.get_all("www-authenticate").iter();
            let schemes: Vec<_> = schemes.map(|scheme| scheme.to_str().unwrap()).collect();
            let is_asked = schemes.len() == 2
                && schemes[0].starts_with("Basic realm=")
                && schemes[1].starts_with("Bearer realm=");
            match is_asked && answer.header("cache-control") == "no-store" {
                true => is_told(401, reason, of_unknown),
                false => Some(format!("is not asked for a credential: {answer:?}")),
            }
        }
        Fate::Denied => is_told(403, "ROLE_REQUIRED", of_others),
        Fate::Missing(Foreign::Lease) => {
            let is_lost = answer.status == 200 && answer.text().contains("LEASE_LOST");
            (!is_lost).then(|| format!("not lost: {answer:?}"))
        }
        Fate::Missing(foreign) => is_told(404, foreign.reason(), of_others),
    }
}

/// Whether an error says this, in these words.
fn is_said(answer: &Answer, reason: &str, words: Words) -> bool {
    let kind = answer.header("content-type");
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
        return false;
    };
    match words {
        Words::Native => {
            kind == "application/problem+json"
                && body["reason"] == reason
                && body["status"] == answer.status
        }
        Words::Aiqum | Words::Deploy => {
            let has_id = !answer.header("request-id").is_empty();
            kind.starts_with("application/json")
                && body["error"]["code"] == reason
                && body["error"]["message"].is_string()
                && has_id == (words == Words::Deploy)
        }
        // It has no words for programs.
        Words::Nse => {
            kind.starts_with("application/json")
                && body["status"]["code"] == answer.status
                && body["status"]["user_message"].is_string()
                && body["result"].is_null()
        }
    }
}

/// Tries every route with every credential; answers with what is wrong, and the cells that had to refuse.
async fn check(cast: &Cast) -> (Vec<Wrong>, BTreeSet<String>) {
    let mut wrong = Vec::new();
    let mut closed = BTreeSet::new();
    let routes = [of_contract(), of_dialects(), undescribed(), configured()];
    for route in routes.into_iter().flatten() {
        let (mut ask, foreign) = route.good(cast).await;
        let fates = cast.credentials.iter().map(|credential| {
            let fate = fate(route.asks, foreign, &credential.who);
            (credential, fate)
        });
        let (open, shut): (Vec<_>, Vec<_>) = fates.partition(|(_, fate)| *fate == Fate::Done);
        let before = world(cast).await;
        let known = wrong.len();
        for (credential, fate) in shut {
            let cell = format!("{} with {}", route.name(), credential.name);
            closed.insert(cell.clone());
            let wire = cast.served.wire();
            let answer = wire.ask(&credential.on(&ask), route.may_last()).await;
            let mut told = wrong_with(&answer, &route, fate);
            if told.is_none() && route.verb == "GET" {
                let mut head = credential.on(&ask);
                head.method = "HEAD".to_owned();
                let of_head = wire.ask(&head, false).await;
                let is_same = of_head.status == answer.status && of_head.body.is_empty();
                told = (!is_same).then(|| format!("HEAD: {of_head:?}"));
            }
            if let Some(told) = told {
                wrong.push(Wrong { cell, told });
                ask = route.good(cast).await.0;
            }
        }
        if wrong.len() == known && world(cast).await != before {
            let cell = format!("{}, denied", route.name());
            let told = "changed something".to_owned();
            wrong.push(Wrong { cell, told });
        }
        for (credential, fate) in open {
            let ask = credential.on(&route.good(cast).await.0);
            let wire = cast.served.other_wire();
            let answer = wire.ask(&ask, route.may_last()).await;
            if let Some(told) = wrong_with(&answer, &route, fate) {
                let cell = format!("{} with {}", route.name(), credential.name);
                wrong.push(Wrong { cell, told });
            }
        }
    }
    (wrong, closed)
}

async fn every_route_does_what_its_permission_says(on: On) {
    let cast = Cast::on(on).await;
    let (wrong, closed) = check(&cast).await;
    assert_right(&wrong);
    assert!(closed.len() > 1_000, "{}", closed.len());
    cast.served.stop().await;
}

on_each_store!(every_route_does_what_its_permission_says);

/// The control, as for the methods.
#[tokio::test]
async fn a_server_that_asks_for_nothing_is_found_out() {
    let served = Served::without_auth(On::Memory).await;
    let cast = Cast::of(served, OTHER).await;
    let (wrong, closed) = check(&cast).await;
    let wrong: BTreeSet<_> = wrong.into_iter().map(|wrong| wrong.cell).collect();
    let missed: Vec<_> = closed.difference(&wrong).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    cast.served.stop().await;
}

/// What the server says that it serves is what is tried here: a route that is new has to be put into a table, or into the contract.
#[tokio::test]
async fn every_route_that_is_described_is_in_a_table() {
    let cast = Cast::on(On::Memory).await;
    let ask = Ask::http("GET", "/openapi.json").key(&cast.owner);
    let document = cast.served.wire().ask(&ask, false).await.json();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for verb in operations.as_object().unwrap().keys() {
            described.insert(format!("{} {path}", verb.to_uppercase()));
        }
    }
    let of = |routes: Vec<Route>| routes.into_iter().map(|route| route.name());
    let known = of(of_contract())
        .chain(of(of_dialects()))
        .chain(of(configured()));
    let known: BTreeSet<_> = known.collect();
    assert_eq!(described, known);
    cast.served.stop().await;
}

/// Neither a method that a path does not have, nor a path that nobody serves, is anybody's business who is not known.
#[tokio::test]
async fn what_is_not_served_is_told_to_those_who_are_known() {
    let cast = Cast::on(On::Memory).await;
    let wire = cast.served.wire();
    let paths = [
        ("TRACE", "/v1/jobs", 405),
        ("PUT", "/v1/jobs", 405),
        ("OPTIONS", "/v1/jobs", 204),
        ("PUT", "/livez", 405),
        ("GET", "/nothing", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/api/v3/nothing", 404),
        ("GET", "/routed/7", 405),
        ("OPTIONS", "/routed/7", 204),
        ("POST", "/longhaul.v1.JobService/Submit", 404),
        ("POST", "/grpc.health.v1.Health/Check", 404),
        ("GET", "/docs/nothing", 404),
    ];
    for (verb, path, status) in paths {
        for credential in &cast.credentials {
            let ask = credential.on(&Ask::http(verb, path));
            let answer = wire.ask(&ask, false).await;
            let expected = match credential.who {
                Who::Nobody(_) => 401,
                _ => status,
            };
            assert_eq!(
                answer.status, expected,
                "{verb} {path} with {}",
                credential.name
            );
            let hints = answer.headers.contains_key("allow");
            assert_eq!(hints, matches!(expected, 204 | 405), "{verb} {path}");
        }
    }
    cast.served.stop().await;
}
