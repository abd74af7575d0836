//! Stores that break the promises that the server relies on, to show that the checker notices.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use longhaul::{
    domain::{Job, JobId, command::Changes},
    store::{Committed, Store as _, StoreError, StoreInfo, Writer, memory::MemoryStore},
};

use super::tampered::{TamperedStore, Tampering};

/// How many commits are answered before they are written.
const UNWRITTEN: usize = 16;

/// How a store lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It answers commits before they are written, so that a crash forgets the last ones.
    AnswersEarly,
    /// It forgets all fencing tokens of an attempt but the first, so that the holder of an older lease passes for that of the newest.
    ForgetsFencing,
}

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disk {
    written: Arc<Mutex<Vec<Changes>>>,
    token_key: [u8; 32],
}

impl Disk {
    /// Opens a store with what was written.
    pub async fn open(&self, lie: Lie) -> TamperedStore {
        let model = MemoryStore::new();
        let mut writer = model.writer().unwrap();
        let written = self.written.lock().unwrap().clone();
        for changes in &written {
            writer.begin().await.unwrap();
            writer.commit(changes).await.unwrap();
        }
        let newest_time = written
            .iter()
            .flat_map(|changes| &changes.events)
            .map(|event| event.time)
            .max();
        let info = StoreInfo {
            name: format!("a store that lies: {lie:?}"),
            // So that the server asks each time, and can be lied to each time.
            exclusive: false,
            token_key: self.token_key,
            feed_id: [7; 16],
            newest_time: newest_time.unwrap_or_default(),
            shared_time: None,
        };
        let lying = Lying {
            lie,
            disk: self.clone(),
            unwritten: Vec::new(),
            first_tokens: HashMap::new(),
        };
        TamperedStore::new(info, model, writer, lying)
    }
}

struct Lying {
    lie: Lie,
    disk: Disk,
    unwritten: Vec<Changes>,
    /// The first that was seen of each attempt of a job's only task.
    first_tokens: HashMap<(JobId, u32), u64>,
}

#[async_trait]
impl Tampering for Lying {
    fn jobs(&mut self, jobs: &mut [Job]) {
        if self.lie == Lie::ForgetsFencing {
            for job in jobs {
                let id = job.id;
                for task in job.tasks.iter_mut().filter(|task| task.state.is_leased()) {
                    let first = self.first_tokens.entry((id, task.attempt));
                    task.fencing_token = *first.or_insert(task.fencing_token);
                }
            }
        }
    }

    async fn commit(
        &mut self,
        changes: &Changes,
        writer: &mut dyn Writer,
    ) -> Result<Committed, StoreError> {
        self.unwritten.push(changes.clone());
        let keep = match self.lie {
            Lie::AnswersEarly => UNWRITTEN,
            Lie::ForgetsFencing => 0,
        };
        if self.unwritten.len() > keep {
            self.disk
                .written
                .lock()
                .unwrap()
                .append(&mut self.unwritten);
        }
        writer.commit(changes).await
    }
}
