//! What every store has to do, one test for each behaviour, run against each store; the model against the database under random histories; and what
//! the embedded store does with what older versions wrote, and when files, disk and process let it down.

mod behaviours;
mod copies;
mod faults;
mod filters;
mod fixture;
mod histories;
#[path = "../postgres/cluster.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod postgres;
mod shared;
mod upgrade;

/// Makes of each behaviour one test for each store.
macro_rules! conformance {
    ($($behaviour:ident,)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $behaviour() {
                crate::behaviours::$behaviour(crate::fixture::Stored::in_memory()).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $behaviour() {
                crate::behaviours::$behaviour(crate::fixture::Stored::in_sqlite()).await;
            })*
        }
        mod in_postgres {
            $(#[tokio::test]
            async fn $behaviour() {
                crate::behaviours::$behaviour(crate::fixture::Stored::in_postgres().await).await;
            })*
        }
    };
}

conformance! {
    a_job_reads_back_as_it_was_written,
    a_change_of_a_task_leaves_the_others_alone,
    a_large_document_reads_back_whole,
    another_tenants_job_is_not_found,
    what_was_not_committed_is_gone,
    the_writer_is_taken_once,
    events_read_back_in_order_and_from_a_revision,
    positions_follow_without_gap,
    a_removed_job_leaves_only_its_tombstone,
    a_tombstone_goes_after_a_day,
    request_ids_are_found_again,
    a_removed_job_gives_its_request_id_back,
    tasks_are_ready_by_priority_then_age,
    a_task_that_was_taken_is_not_ready,
    turns_go_round_the_tenants,
    a_round_has_a_bound,
    the_tasks_ahead_are_counted,
    due_jobs_come_longest_overdue_first,
    expired_jobs_come_longest_over_first,
    open_children_are_those_that_have_not_ended,
    counters_add_up,
    drivers_pause_and_resume,
    pages_follow_without_gap_or_repeat,
    a_page_says_what_it_has_seen,
    a_tally_counts_what_a_list_reads,
    the_order_of_changes_is_that_of_the_feed,
    the_feed_tells_each_job_once,
    the_feed_is_of_one_tenant,
    the_feed_tells_of_removed_jobs,
    a_long_stretch_of_the_feed_comes_in_parts,
    tenants_are_those_that_have_jobs,
    a_scan_meets_every_job_with_all_that_is_kept_of_it,
    a_scan_tells_the_first_events_of_a_long_life,
    a_note_is_there_until_it_is_taken_away,
}
