//! What every store has to do, one test for each behaviour, run against each store, and once more through gRPC against servers on each; the model against
//! the databases and the service under random histories; and what the stores do with what older versions wrote, and when files, disk and process let
//! them down.

mod announcing;
mod behaviours;
mod copies;
mod faults;
mod filters;
mod fixture;
mod histories;
mod mirrored;
#[path = "../postgres/cluster.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod postgres;
mod registry;
mod served;
mod shared;
mod trouble;
mod upgrade;

/// Makes of each behaviour one test for each store, and of those that a client can see one more through gRPC for each.
macro_rules! conformance {
    (
        seen_by_clients: $($seen:ident,)*;
        $(unseen, because $why:literal: $($unseen:ident,)*;)*
    ) => {
        /// On each store itself.
        mod memory {
            $(conformance!(@stored $seen, in_memory());)*
            $($(conformance!(@stored $unseen, in_memory());)*)*
        }
        mod sqlite {
            $(conformance!(@stored $seen, in_sqlite());)*
            $($(conformance!(@stored $unseen, in_sqlite());)*)*
        }
        mod in_postgres {
            $(conformance!(@stored $seen, in_postgres().await);)*
            $($(conformance!(@stored $unseen, in_postgres().await);)*)*
        }
        /// Through gRPC, by servers on each store.
        mod grpc {
            mod memory { $(conformance!(@served $seen, from_memory);)* }
            mod sqlite { $(conformance!(@served $seen, from_sqlite);)* }
            mod postgres { $(conformance!(@served $seen, from_postgres);)* }
            mod two_nodes { $(conformance!(@served $seen, from_postgres_by_two);)* }
        }
    };
    (@stored $behaviour:ident, $($open:tt)*) => {
        #[tokio::test]
        async fn $behaviour() {
            crate::behaviours::$behaviour(crate::fixture::Stored::$($open)*).await;
        }
    };
    (@served $behaviour:ident, $serve:ident) => {
        #[tokio::test]
        async fn $behaviour() {
            let served = crate::served::Served::$serve().await;
            crate::served::$behaviour(&served).await;
            served.stop().await;
        }
    };
}

conformance! {
    seen_by_clients:
        a_job_reads_back_as_it_was_written,
        a_change_of_a_task_leaves_the_others_alone,
        a_large_document_reads_back_whole,
        secrets_are_kept_until_they_are_erased,
        events_read_back_in_order_and_from_a_revision,
        a_removed_job_leaves_only_its_tombstone,
        request_ids_are_found_again,
        a_removed_job_gives_its_request_id_back,
        tasks_are_ready_by_priority_then_age,
        a_task_that_was_taken_is_not_ready,
        the_tasks_ahead_are_counted,
        open_children_are_those_that_have_not_ended,
        counters_add_up,
        drivers_pause_and_resume,
        pages_follow_without_gap_or_repeat,
        a_page_says_what_it_has_seen,
        a_tally_counts_what_a_list_reads,
        the_order_of_changes_is_that_of_the_feed,
        the_feed_tells_each_job_once,
        the_feed_tells_of_removed_jobs,
        a_long_stretch_of_the_feed_comes_in_parts,
        another_tenants_job_is_not_found,
        turns_go_round_the_tenants,
        the_feed_is_of_one_tenant,
    ;
    unseen, because "it takes more tenants than are made for a test":
        one_tenants_tasks_are_ready_by_themselves,
        a_round_has_a_bound,
    ;
    unseen, because "what may be taken is seen by what is taken":
        a_paused_driver_has_nothing_ready,
    ;
    unseen, because "a call is a whole transaction":
        what_was_not_committed_is_gone,
    ;
    unseen, because "a client has no writer":
        the_writer_is_taken_once,
    ;
    unseen, because "a cursor is closed to clients":
        positions_follow_without_gap,
    ;
    unseen, because "nobody waits for a day":
        a_tombstone_goes_after_a_day,
    ;
    unseen, because "in what order a server does what is due is its own affair":
        due_jobs_come_longest_overdue_first,
        expired_jobs_come_longest_over_first,
    ;
    unseen, because "it is for those who copy a store":
        tenants_are_those_that_have_jobs,
        a_scan_meets_every_job_with_all_that_is_kept_of_it,
        a_scan_of_large_jobs_is_cut_and_goes_on,
        a_scan_tells_the_first_events_of_a_long_life,
        a_note_is_there_until_it_is_taken_away,
    ;
    unseen, because "what administrators see of it is tried where access is":
        a_record_reads_back_as_it_was_written,
        a_record_that_is_not_there_is_not_found,
        a_record_changes_only_as_it_was_read,
        records_are_listed_by_kind_and_tenant,
        the_audit_log_reads_both_ways,
        what_is_done_and_its_record_are_one_commit,
        a_transaction_needs_no_job,
    ;
    unseen, because "nobody waits for a year":
        the_audit_log_is_kept_for_its_life,
    ;
}
