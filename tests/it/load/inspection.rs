//! What is stored when nobody changes it any more, as each node says it.

use longhaul::{
    client::Client,
    proto::v1::{GetCountsRequest, Job, ListEventsRequest, ListRequest},
};

use super::{Stage, history::Fact};

/// Jobs, or changes of one, that are read at once.
const PAGE: i32 = 1_000;

impl Stage {
    /// Writes down what is stored at the end.
    pub async fn inspect(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            self.history.note(Fact::Inspected { node: number });
            let mut page_token = String::new();
            loop {
                let request = ListRequest {
                    page_size: PAGE,
                    page_token,
                    ..ListRequest::default()
                };
                let page = node.jobs().list(request).await.unwrap().into_inner();
                for job in page.jobs {
                    // One history will do: it has to lead to what each node says.
                    if number == 0 {
                        self.inspect_history(node, &job.id).await;
                        self.note_tasks(&job);
                    }
                    self.history.note(Fact::Stored {
                        node: number,
                        state: job.state(),
                        revision: job.revision,
                        job: job.id,
                    });
                }
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            self.inspect_counts(number, node).await;
        }
    }

    async fn inspect_history(&self, node: &Client, job: &str) {
        let request = ListEventsRequest {
            job_id: job.to_owned(),
            page_size: PAGE,
            ..ListEventsRequest::default()
        };
        let page = node.jobs().list_events(request).await.unwrap();
        for event in page.into_inner().events {
            self.history.note(Fact::Changed {
                job: job.to_owned(),
                revision: event.revision,
                kind: event.r#type(),
                state: event.state(),
                task: event.task_id,
                attempt: event.attempt,
            });
        }
    }

    fn note_tasks(&self, job: &Job) {
        for task in &job.tasks {
            self.history.note(Fact::StoredTask {
                task: task.id.clone(),
                attempt: task.attempt,
                lost_leases: task.lost_leases,
            });
        }
    }

    async fn inspect_counts(&self, number: usize, node: &Client) {
        let counts = node.jobs().get_counts(GetCountsRequest {}).await.unwrap();
        for count in counts.into_inner().jobs {
            self.history.note(Fact::Counted {
                node: number,
                state: count.state(),
                count: count.count.try_into().unwrap(),
            });
        }
    }
}
