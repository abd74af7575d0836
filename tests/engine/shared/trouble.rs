//! What two engines owe their callers when they meet, when the store goes away, fails over or leaves them in doubt, and when the clock jumps.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn who_meets_others_tries_again_within_bounds() {
    let pair = pair().await;
    pair.store.set_conflicts(5);
    submit(&pair.here, &["d"]).await;
    pair.store.set_conflicts(usize::MAX);
    let refused = pair.here.submit(vec![submission(&["d"])]).await;
    assert!(
        matches!(refused, Err(EngineError::Store(StoreError::Conflict(_)))),
        "{refused:?}"
    );
    pair.store.set_conflicts(0);
    submit(&pair.here, &["d"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_calls_are_refused_and_watches_wait() {
    let pair = pair().await;
    let key = submit(&pair.here, &["d"]).await;
    let mut watch = watch(&pair.there, &key, Duration::ZERO).await;
    let mut seen = 0;
    next(&mut watch, &mut seen).await;
    let heartbeat = Duration::from_secs(600);
    let mut follow = pair
        .there
        .follow(tenant(), "", "", heartbeat)
        .await
        .unwrap();
    while !matches!(follow.next().await, Some(Ok(FollowItem::Synced { .. }))) {}

    let mut reached = pair.there.reached();
    pair.store.set_away(true);
    coming("the news", reached.wait_for(|reached| !reached))
        .await
        .unwrap();
    for engine in [&pair.here, &pair.there] {
        let refused = engine.submit(vec![submission(&["d"])]).await;
        assert!(
            matches!(refused, Err(EngineError::Store(StoreError::Unavailable(_)))),
            "{refused:?}"
        );
    }
    assert!(watch.next().now_or_never().is_none());
    assert!(follow.next().now_or_never().is_none());

    pair.store.set_away(false);
    coming("the news", reached.wait_for(|reached| *reached))
        .await
        .unwrap();
    pair.here
        .cancel(key.clone(), String::new(), None)
        .await
        .unwrap();
    assert_eq!(next(&mut watch, &mut seen).await, (2, JobState::Cancelled));
    let item = coming("the change", follow.next()).await;
    assert!(
        matches!(item, Some(Ok(FollowItem::Changes { .. }))),
        "{item:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_too_much_to_do_is_not_away() {
    let store = SharedStore::new(start());
    let (engine, _thread) = node(&store, Policy::default().lease_duration).await;
    let mut reached = engine.reached();
    // More than make a node one that can not hear.
    store.set_crowded(6);
    while store.is_crowded() {
        let away = reached.wait_for(|reached| !reached);
        let away = tokio::time::timeout(Duration::from_millis(20), away).await;
        assert!(away.is_err(), "it took the store to be away");
    }
    assert!(*engine.reached().borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_began_when_nothing_was_due_sees_to_what_others_leave_behind() {
    let pair = pair_with(Duration::from_secs(1)).await;
    let key = submit(&pair.here, &["d"]).await;
    let mut watch = watch(&pair.there, &key, Duration::ZERO).await;
    let mut seen = 0;
    next(&mut watch, &mut seen).await;
    lease(&pair.here).await;
    let [here, _there] = pair.threads;
    here.stop().await.unwrap();
    assert_eq!(next(&mut watch, &mut seen).await, (2, JobState::Running));
    next(&mut watch, &mut seen).await;
    let job = pair.there.get(&key).await.unwrap();
    assert_eq!(job.tasks[0].lost_leases, 1);
    assert_ne!(job.tasks[0].state, TaskState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_may_not_be_stored_is_given_back_at_once() {
    let pair = pair().await;
    let (_session, mut messages) = worker(&pair.here).await;
    pair.store.set_doubts(1);
    // It may share the commit with its lease, and so the doubt.
    let _ = pair.here.submit(vec![submission(&["d"])]).await;
    let lease = leased(&mut messages).await;
    let job = pair.here.get(&lease.job_key()).await.unwrap();
    assert_eq!(job.tasks[0].lost_leases, 0);
    report(&pair.here, &lease, success()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_of_a_job_that_others_are_at_waits_and_holds_up_nobody() {
    let pair = pair().await;
    let (_session, mut messages) = worker(&pair.there).await;
    let key = submit(&pair.here, &["d"]).await;
    leased(&mut messages).await;
    pair.store.set_busy(&key, true);
    pair.here
        .cancel(key.clone(), "stop".into(), None)
        .await
        .unwrap();
    while pair.store.left_out() == 0 {
        tokio::task::yield_now().await;
    }
    submit(&pair.there, &["other"]).await;
    assert!(messages.recv().now_or_never().is_none());
    pair.store.set_busy(&key, false);
    let told = coming("the order", messages.recv()).await;
    assert!(matches!(told, Some(ToWorker::Cancel(..))), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_a_lease_of_a_job_that_is_gone_is_told() {
    let pair = pair().await;
    let (_session, mut messages) = worker(&pair.there).await;
    let key = submit(&pair.here, &["d"]).await;
    let lease = leased(&mut messages).await;
    pair.store.set_deaf(true);
    report(&pair.here, &lease, success()).await;
    pair.here.delete(key, None).await.unwrap();
    pair.store.set_deaf(false);
    let told = coming("the loss", messages.recv()).await;
    assert!(matches!(told, Some(ToWorker::Lost(lost)) if lost == lease));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_others_are_at_is_left_to_them_for_a_moment() {
    let pair = pair().await;
    let key = submit(&pair.here, &["d"]).await;
    pair.store.set_busy(&key, true);
    let (_session, mut messages) = worker(&pair.there).await;
    while pair.store.left_out() == 0 {
        tokio::task::yield_now().await;
    }
    // Again and again, but no sooner than after some milliseconds each time.
    let (before, first) = (pair.there.now(), pair.store.left_out());
    let looks = async {
        while pair.store.left_out() < first + 20 {
            tokio::task::yield_now().await;
        }
    };
    coming("looks", looks).await;
    assert!(pair.there.now().since(before) > Duration::from_millis(50));
    pair.store.set_busy(&key, false);
    assert_eq!(leased(&mut messages).await.job, key.job);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_around_a_failover_is_asked_of_every_lease() {
    let pair = pair().await;
    let (_session, mut messages) = worker(&pair.there).await;
    submit(&pair.here, &["d"]).await;
    let lease = leased(&mut messages).await;
    pair.store.set_deaf(true);
    report(&pair.here, &lease, success()).await;
    pair.store.fail_over();
    pair.store.set_deaf(false);
    // Its slot is free again.
    submit(&pair.here, &["d"]).await;
    loop {
        match coming("a lease", messages.recv()).await {
            Some(ToWorker::Leases(_)) => break,
            told => assert!(matches!(told, Some(ToWorker::Lost(_))), "{told:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_ends_though_its_store_is_away() {
    let pair = pair().await;
    let (session, mut messages) = worker(&pair.here).await;
    submit(&pair.here, &["d"]).await;
    leased(&mut messages).await;
    pair.store.set_away(true);
    // What it has not acknowledged is to go back.
    drop((session, messages));
    let [here, _there] = pair.threads;
    coming("the end", here.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_clock_ends_no_lease() {
    let pair = pair_with(Duration::from_secs(5)).await;
    submit(&pair.here, &["d"]).await;
    let grant = lease(&pair.here).await;
    let later = start().after(Duration::from_secs(3_600));
    pair.store.set_time(later);
    while pair.here.now() < later || pair.there.now() < later {
        tokio::task::yield_now().await;
    }
    // Both have looked for what is due by now.
    for engine in [&pair.here, &pair.there] {
        submit(engine, &["other"]).await;
    }
    report(&pair.here, &grant.lease, success()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_go_by_the_time_of_the_store() {
    let pair = pair().await;
    let later = start().after(Duration::from_secs(3_600));
    pair.store.set_time(later);
    let job = submit(&pair.here, &["other"]).await;
    let mut heard = watch(&pair.there, &job, Duration::ZERO).await;
    next(&mut heard, &mut 0).await;
    // A tail brings the time with what is new.
    while pair.here.now() < later || pair.there.now() < later {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_begins_again_when_the_database_has_failed_over() {
    let pair = pair().await;
    let key = submit(&pair.here, &["d"]).await;
    let mut watching = watch(&pair.there, &key, Duration::ZERO).await;
    next(&mut watching, &mut 0).await;
    let heartbeat = Duration::from_secs(600);
    let follow = pair.there.follow(tenant(), "", "", heartbeat).await;
    let mut follow = follow.unwrap();
    let cursor = loop {
        match coming("the listing", follow.next()).await {
            Some(Ok(FollowItem::Synced { cursor })) => break cursor,
            item => assert!(matches!(item, Some(Ok(FollowItem::Listed(_)))), "{item:?}"),
        }
    };
    pair.store.fail_over();
    let away = |error: Option<EngineError>| {
        assert!(matches!(error, Some(EngineError::FailedOver)), "{error:?}");
    };
    away(
        coming("the end of the watch", watching.next())
            .await
            .and_then(Result::err),
    );
    away(
        coming("the end of the feed", follow.next())
            .await
            .and_then(Result::err),
    );

    // Both can go on; the cursor begins with a listing, because what it has seen may be gone.
    let mut watching = watch(&pair.there, &key, Duration::ZERO).await;
    next(&mut watching, &mut 0).await;
    let follow = pair.there.follow(tenant(), "", &cursor, heartbeat).await;
    let item = coming("a listing", follow.unwrap().next()).await;
    assert!(matches!(item, Some(Ok(FollowItem::Listed(_)))), "{item:?}");
    pair.here.cancel(key, String::new(), None).await.unwrap();
    assert_eq!(next(&mut watching, &mut 1).await, (2, JobState::Cancelled));
}
