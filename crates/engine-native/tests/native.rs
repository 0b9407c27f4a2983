//! The native engine keeps the promises of `trait Engine`.

mod suite;

use hone_engine_native::NativeEngine;

macro_rules! promises {
    ($($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            suite::$name(&NativeEngine::new(1)).await;
        }
    )*};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_changes_no_answer() {
    suite::a_crowd_changes_no_answer(&NativeEngine::new(8)).await;
}

promises! {
    streams_an_answer_and_counts_its_tokens
    a_seed_repeats_an_answer
    ends_before_a_stop_text
    holds_an_answer_to_a_schema
    calls_a_function_that_it_must
    a_reader_that_leaves_cancels
    a_reader_that_stalls_holds_up_nobody
    refuses_a_prompt_that_fills_the_context
    computes_what_the_trainer_computes
    reports_the_logprobs_of_what_it_says
    policies_loaded_together_keep_apart
    an_answer_outlives_its_policys_last_handle
    refuses_broken_files_and_goes_on
}
