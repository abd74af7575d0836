//! What else a change brings about: events, request ids, counters, drivers; and what a removal takes away.

use longhaul::{
    client::Client,
    proto::v1::{
        GetServerInfoRequest, JobEvent, ListEventsRequest, PauseDriverRequest, ResumeDriverRequest,
        Success, Warning, job, job_change, job_event::Type, job_task, task_report::Report,
    },
};

use super::{Served, reason, request, spec};

/// A page of a job's history, and the token for the next.
async fn events(
    client: &Client,
    job_id: &str,
    after_revision: u64,
    page_size: i32,
    page_token: String,
) -> Result<(Vec<JobEvent>, String), tonic::Status> {
    let request = ListEventsRequest {
        job_id: job_id.to_owned(),
        after_revision,
        page_size,
        page_token,
    };
    let answer = client.jobs().list_events(request).await?.into_inner();
    Ok((answer.events, answer.next_page_token))
}

pub async fn events_read_back_in_order_and_from_a_revision(served: &Served) {
    let job = served.submit_for("d").await;
    let lease = served.acquire(&["d"], 1).await.remove(0);
    for message in ["slow", "slower"] {
        let message = message.to_owned();
        served
            .report(&lease, Report::Warning(Warning { message }))
            .await;
    }
    served
        .report(&lease, Report::Success(Success::default()))
        .await;

    let all = events(served.client(), &job.id, 0, 0, String::new()).await;
    let (all, end) = all.unwrap();
    let told: Vec<_> = all
        .iter()
        .map(|event| (event.revision, event.r#type()))
        .collect();
    let expected = [
        (1, Type::JobSubmitted),
        (2, Type::TaskLeased),
        (3, Type::TaskWarning),
        (4, Type::TaskWarning),
        (5, Type::TaskSucceeded),
    ];
    assert_eq!((told.as_slice(), end.as_str()), (&expected[..], ""));
    assert_eq!(all[3].detail, "slower");
    let page = events(served.client(), &job.id, 1, 2, String::new()).await;
    let (page, token) = page.unwrap();
    assert_eq!(page, all[1..3]);
    let (page, end) = events(served.client(), &job.id, 1, 2, token).await.unwrap();
    assert_eq!((page.as_slice(), end.as_str()), (&all[3..], ""));
}

pub async fn a_removed_job_leaves_only_its_tombstone(served: &Served) {
    let gone = served.submit_for("d").await;
    let stays = served.submit_for("d").await;
    served.cancel(&gone.id).await;
    let mark = served.mark().await;
    served.delete(&gone.id).await;

    let refused = served.get(&gone.id).await.unwrap_err();
    assert_eq!(reason(&refused), "JOB_NOT_FOUND");
    let refused = events(served.client(), &gone.id, 0, 0, String::new()).await;
    assert_eq!(reason(&refused.unwrap_err()), "JOB_NOT_FOUND");
    let listed = served.list("", "", 10).await;
    assert_eq!(listed.ids, std::slice::from_ref(&stays.id));
    let leases = served.acquire(&["d"], 1).await;
    assert_eq!(leases[0].task.as_ref().unwrap().job_id, stays.id);
    let deleted = |change: &longhaul::proto::v1::JobChange| {
        change.job_id == gone.id && change.r#type() == job_change::Type::Deleted
    };
    served.changes(&mark, deleted).await;
}

pub async fn request_ids_are_found_again(served: &Served) {
    let one = request(spec(&["d"]), "r1");
    let first = served.submit(one.clone()).await.unwrap();
    for _ in 0..2 {
        let again = served.submit(one.clone()).await.unwrap();
        assert_eq!((again.created, again.job), (false, first.job.clone()));
    }
    let other = served.submit(request(spec(&["e"]), "r1")).await;
    assert_eq!(reason(&other.unwrap_err()), "REQUEST_ID_REUSED");
    let another = served.submit(request(spec(&["d"]), "r2")).await.unwrap();
    assert!(another.created);
    assert_eq!(served.list("", "", 10).await.ids.len(), 2);
}

pub async fn a_removed_job_gives_its_request_id_back(served: &Served) {
    let first = served.submit(request(spec(&["d"]), "r1")).await.unwrap();
    let first = first.job.unwrap().id;
    served.cancel(&first).await;
    served.delete(&first).await;
    let other = served.submit(request(spec(&["e"]), "r1")).await.unwrap();
    assert!(other.created);
    assert_ne!(other.job.unwrap().id, first);
}

pub async fn counters_add_up(served: &Served) {
    let ids = served.submit_many("d", 4).await;
    served.submit_for("e").await;
    served.cancel(&ids[3]).await;
    let leases = served.acquire(&["d"], 2).await;
    served
        .report(&leases[0], Report::Success(Success::default()))
        .await;
    for _ in 0..2 {
        let counts = served.counts().await;
        let jobs: Vec<_> = counts.jobs.iter().map(|c| (c.state(), c.count)).collect();
        let expected = [
            (job::State::Queued, 2),
            (job::State::Running, 1),
            (job::State::Succeeded, 1),
            (job::State::Cancelled, 1),
        ];
        assert_eq!(jobs, expected);
        let tasks = counts.tasks.iter();
        let tasks: Vec<_> = tasks
            .map(|c| (c.driver.as_str(), c.state(), c.count))
            .collect();
        let expected = [
            ("d", job_task::State::Queued, 1),
            ("d", job_task::State::Running, 1),
            ("d", job_task::State::Succeeded, 1),
            ("d", job_task::State::Cancelled, 1),
            ("e", job_task::State::Queued, 1),
        ];
        assert_eq!(tasks, expected);
    }
}

pub async fn drivers_pause_and_resume(served: &Served) {
    // Other nodes hear of it soon, not at once.
    let client = served.same_client();
    for driver in ["d", "e"] {
        served.submit_for(driver).await;
    }
    let pause = |driver: &str, reason: &str| PauseDriverRequest {
        driver: driver.to_owned(),
        reason: reason.to_owned(),
    };
    let paused = async || {
        let info = served
            .client()
            .admin()
            .get_server_info(GetServerInfoRequest {})
            .await;
        let paused = info.unwrap().into_inner().paused_drivers.into_iter();
        paused
            .map(|paused| (paused.driver, paused.reason))
            .collect::<Vec<_>>()
    };
    client
        .admin()
        .pause_driver(pause("d", "broken"))
        .await
        .unwrap();
    client
        .admin()
        .pause_driver(pause("d", "still"))
        .await
        .unwrap();
    assert_eq!(paused().await, [("d".to_owned(), "still".to_owned())]);
    assert!(served.there(client, &["d"]).await.is_empty());
    served.acquire(&["e"], 1).await;
    let driver = "d".to_owned();
    let resume = ResumeDriverRequest { driver };
    client.admin().resume_driver(resume).await.unwrap();
    assert_eq!(paused().await, []);
    served.acquire(&["d"], 1).await;
}
