//! What is given out, and in what order.

use std::{collections::HashMap, time::Duration};

use longhaul::proto::v1::{
    ExplainRequest, GetRequest, JobSpec, Lease, WorkRequest, WorkerHello, job::State,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{SOON, Served, acquire, in_an_hour, request, spec};

/// The pause between two looks at what comes soon.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn jobs_of(leases: &[Lease]) -> Vec<&str> {
    let tasks = leases.iter().map(|lease| lease.task.as_ref().unwrap());
    tasks.map(|task| task.job_id.as_str()).collect()
}

/// Jobs of these priorities, all by the clock of one node.
async fn submit_with(served: &Served, priorities: &[i32]) -> Vec<String> {
    let mut ids = Vec::new();
    for &priority in priorities {
        let job = JobSpec {
            priority,
            ..spec(&["d"])
        };
        let answer = served.same_client().jobs().submit(request(job, "")).await;
        ids.push(answer.unwrap().into_inner().job.unwrap().id);
    }
    ids
}

pub async fn tasks_are_ready_by_priority_then_age(served: &Served) {
    let ids = submit_with(served, &[0, 9, 0, -3, 9]).await;
    let mut later = spec(&["d"]);
    later.priority = 99;
    later.schedule_time = Some(in_an_hour());
    served.submit(request(later, "")).await.unwrap();
    served.submit_for("e").await;
    let expected = [1, 4, 0, 2, 3].map(|n: usize| ids[n].as_str());
    let first = served.acquire(&["d"], 1).await;
    assert_eq!(jobs_of(&first), expected[..1]);
    let rest = served.acquire(&["d"], 4).await;
    assert_eq!(jobs_of(&rest), expected[1..]);
    assert!(served.there(served.client(), &["d"]).await.is_empty());
}

pub async fn a_task_that_was_taken_is_not_ready(served: &Served) {
    served.submit(request(spec(&["d", "d"]), "")).await.unwrap();
    let mut names = Vec::new();
    for _ in 0..2 {
        let lease = served.acquire(&["d"], 1).await.remove(0);
        assert_eq!(lease.attempt, 1);
        names.push(lease.task.unwrap().id);
    }
    names.dedup();
    assert_eq!(names.len(), 2);
    for client in [served.client(), served.client()] {
        assert!(served.there(client, &["d"]).await.is_empty());
    }
}

pub async fn the_tasks_ahead_are_counted(served: &Served) {
    let (says, hears) = tokio::sync::mpsc::channel(1);
    let hello = WorkRequest {
        hello: Some(WorkerHello {
            name: "worker-1".to_owned(),
            drivers: vec!["d".to_owned()],
            slots: 1,
            ..WorkerHello::default()
        }),
        ..WorkRequest::default()
    };
    says.send(hello).await.unwrap();
    let work = served
        .client()
        .workers()
        .work(ReceiverStream::new(hears))
        .await;
    let mut work = work.unwrap().into_inner();
    let busy = served.submit_for("d").await;
    while work.next().await.unwrap().unwrap().leases.is_empty() {}
    assert_eq!(served.get(&busy.id).await.unwrap().state(), State::Running);

    let ids = submit_with(served, &[0, 9, 0, -3]).await;
    served.submit_for("e").await;
    for (ahead, n) in ["0 tasks", "1 task", "2 tasks", "3 tasks"]
        .iter()
        .zip([1, 0, 2, 3])
    {
        let job_id = ids[n].clone();
        let expected =
            format!("waits behind {ahead} of driver d; 1 worker connected, 0 slots free");
        // Another node hears of the worker, and of what it has taken, soon, not at once.
        loop {
            let request = ExplainRequest {
                job_id: job_id.clone(),
            };
            let answer = served.client().jobs().explain(request).await.unwrap();
            let explanation = answer.into_inner().explanations.remove(0);
            if explanation.message == expected {
                assert_eq!(explanation.reason, "QUEUED_BEHIND");
                break;
            }
            let soon = ["no worker", "1 slot free"];
            let is_soon = soon.iter().any(|word| explanation.message.contains(word));
            assert!(is_soon, "{explanation:?} instead of {expected}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    drop(says);
}

pub async fn open_children_are_those_that_have_not_ended(served: &Served) {
    let parent = served.submit_for("d").await;
    let mut children = Vec::new();
    for _ in 0..3 {
        let child = JobSpec {
            parent_job_id: parent.id.clone(),
            ..spec(&["e"])
        };
        let answer = served.submit(request(child, "")).await.unwrap();
        children.push(answer.job.unwrap().id);
    }
    served.cancel(&children[0]).await;
    let counted = async || {
        let parent = served.get(&parent.id).await.unwrap();
        let children = parent.child_summary.unwrap();
        (children.total, children.open, children.cancelled)
    };
    assert_eq!(counted().await, (3, 2, 1));
    // The end of the parent takes those that are open with it.
    served.cancel(&parent.id).await;
    let ended = served.client().wait(&parent.id).await.unwrap();
    assert_eq!(ended.state(), State::Cancelled);
    assert_eq!(counted().await, (3, 0, 3));
    for child in &children {
        let child = served.get(child).await.unwrap();
        assert_eq!(child.state(), State::Cancelled);
    }
}

pub async fn turns_go_round_the_tenants(served: &Served) {
    let mut of = HashMap::new();
    for tenant in ["b", "a", "c", "b"] {
        if !of.contains_key(tenant) {
            of.insert(tenant, served.clients_of(tenant).await.remove(0));
        }
        let answer = of[tenant].jobs().submit(request(spec(&["d"]), "")).await;
        answer.unwrap();
    }
    // Whose turn it is, is for each node to know.
    let mut turns = String::new();
    for _ in 0..4 {
        let leases = acquire(served.same_client(), &["d"], 1, SOON).await;
        let id = leases[0].task.as_ref().unwrap().job_id.as_str();
        for (tenant, client) in &of {
            let request = GetRequest {
                job_id: id.to_owned(),
                ..GetRequest::default()
            };
            turns.extend(client.jobs().get(request).await.ok().map(|_| *tenant));
        }
    }
    assert_eq!(turns, "abcb");
}
