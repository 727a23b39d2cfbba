//! The promises of every store.

mod batches;
mod goals;
mod index;
mod jobs;
mod operator_commands;
mod outbox;
mod projections;
mod reliability;
mod retention;
mod slots;
mod timers;
mod workflows;

pub(super) use batches::*;
pub(super) use goals::*;
pub(super) use index::*;
pub(super) use jobs::*;
pub(super) use operator_commands::*;
pub(super) use outbox::*;
pub(super) use projections::*;
pub(super) use reliability::*;
pub(super) use retention::*;
pub(super) use slots::*;
pub(super) use timers::*;
pub(super) use workflows::*;

use std::time::Duration;

/// Calls the macro `$run` with the names of all cases.
macro_rules! for_each_case {
    ($run:ident, $adapter:ty) => {
        $run! {
            $adapter,
            an_appended_stream_loads_in_order_of_version;
            histories_come_in_pages;
            a_batch_decided_on_another_version_writes_nothing_beside_healthy_streams;
            events_that_do_not_follow_each_other_are_refused;
            a_batch_of_rejections_leaves_no_head;
            a_dropped_batch_writes_nothing_and_frees_its_streams;
            known_commands_are_found_under_the_lock;
            a_state_of_events_that_were_lost_counts_for_nothing;
            tasks_that_have_started_are_counted_up_to_a_number;
            a_command_id_that_comes_twice_is_refused;
            a_command_that_completed_its_task_is_known_with_the_output;
            what_lies_after_the_held_version_is_read_under_the_lock;
            a_deployment_keeps_its_id;
            a_snapshot_shortens_the_load_and_a_damaged_one_is_replayed;
            a_nul_in_a_text_is_bad_data;
            overlapping_batches_neither_deadlock_nor_leave_gaps;
            tasks_that_are_started_by_two_at_once_are_started_once;
            the_log_holds_all_streams_in_order;
            messages_belong_to_the_publisher_that_commits_them;
            a_message_without_an_event_is_carried_in_its_place;
            the_events_of_a_row_are_read_with_what_they_stand_on;
            a_row_goes_back_from_the_first_version_that_was_not_confirmed;
            a_refused_message_can_be_given_up;
            a_claim_counts_the_bytes_of_events;
            messages_behind_those_of_others_go_to_the_relay;
            a_claim_takes_the_oldest_and_keeps_the_order_of_a_task;
            a_claim_ends_after_so_many_bytes;
            a_message_that_backs_off_holds_back_its_own_task_only;
            a_lapsed_lease_is_taken_over_and_a_renewed_one_is_not;
            a_publisher_finds_out_what_it_holds;
            confirmed_messages_are_gone;
            messages_without_a_batch_are_queued_once;
            timers_is_leased_moved_and_unset;
            an_act_is_recorded_once_and_its_pause_is_read_by_batches;
            timers_of_a_paused_workflow_is_not_claimed;
            pauses_are_remade_from_operator_commands;
            a_rule_acts_in_the_step_that_finds_it;
            an_archived_workflow_is_held_until_it_is_restored;
            free_places_are_found_by_who_may_take_them;
            slots_are_remade_from_the_state;
            who_released_a_slot_is_offered_it_after_all_others;
            who_skips_gets_another_task_while_there_is_one;
            people_at_work_are_seen_with_their_roles;
            claims_never_exceed_the_overlap_however_many_race;
            one_person_never_holds_more_than_allowed;
            reliable_people_get_what_is_contested;
            no_task_is_left_behind_by_those_that_are_contested;
            sharing_by_quality_never_exceeds_the_overlap;
            drafts_are_kept_by_person_and_visit;
            tasks_are_found_by_what_they_are;
            tasks_are_counted_by_status_and_by_where_they_wait;
            what_has_not_ended_is_counted_by_step;
            the_numbers_of_tasks_follow_every_change_of_a_status;
            rejected_commands_are_listed_newest_first;
            revisions_are_numbered_and_equal_content_is_one;
            concurrent_saves_get_distinct_numbers;
            a_job_is_done_by_one_runner_at_a_time_and_counted_once;
            an_ended_job_is_nobodys_and_old_ones_are_forgotten;
            a_restore_begins_another_log_and_tells_jobs_to_stop;
            goal_actions_are_done_once;
            goals_are_the_same_live_and_made_anew;
            a_projection_counts_each_event_once;
            what_a_projection_has_not_read_has_an_age;
            what_is_settled_is_read;
            what_is_derived_is_replaced_where_it_differs;
            the_events_of_one_workflow_are_found_in_the_log;
            a_model_is_kept_as_far_as_it_has_come;
            an_archived_task_leaves_its_end_and_what_is_read_of_the_log;
            what_an_archive_does_not_fit_is_left_as_it_is;
            a_task_to_which_something_is_to_happen_is_not_archived;
            leftovers_are_counted_and_deleted_page_by_page;
        }
    };
}
pub(super) use for_each_case;

/// How long a condition may take to become true.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `ask` returns a value.
pub(super) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .expect("the condition holds in time")
}
