//! What the watchers of one job see: its newest versions, each encoded once, and who is to be woken.
//!
//! A topic must not know what its watchers make of a version.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use slab::Slab;

use crate::domain::Job;

/// Versions of a job that a topic holds: a watcher that is not further behind sees each change of state on its own.
const VERSIONS: usize = 8;
/// Bytes, as estimated, that these versions take, unless the newest alone takes more: what they do not share, and the forms that somebody has read.
const VERSIONS_BYTES: usize = 1024 * 1024;
/// Forms in which front ends encode a job: the views of the API, as messages and as JSON.
pub const FORMS: usize = 6;

/// A job at one revision, with its encoded forms.
#[derive(Debug)]
pub struct Version {
    /// The job.
    pub job: Arc<Job>,
    /// It differs from the one before in progress alone.
    pub(super) progress_only: bool,
    encoded: [OnceLock<Bytes>; FORMS],
}

impl Version {
    pub(super) fn new(job: Arc<Job>, progress_only: bool) -> Arc<Self> {
        Arc::new(Self {
            job,
            progress_only,
            encoded: Default::default(),
        })
    }

    /// Bytes that it takes, roughly, beside what versions share.
    fn bytes(&self) -> usize {
        let encoded = self.encoded.iter().filter_map(OnceLock::get);
        self.job.unshared_bytes() + encoded.map(Bytes::len).sum::<usize>()
    }

    /// The job in a form, encoded by the first caller for all.
    pub fn encoded(&self, form: usize, encode: impl FnOnce(&Job) -> Bytes) -> &Bytes {
        self.encoded[form].get_or_init(|| encode(&self.job))
    }
}

/// What there is to know.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The newest versions, oldest first.
    pub(super) versions: VecDeque<Arc<Version>>,
    /// The last revision with more than progress that is not held any more: for a reader that has not seen it, the next version is no mere progress.
    dropped: u64,
    pub(super) deleted: bool,
    /// What was told may never have been.
    pub(super) void: bool,
    pub(super) draining: bool,
}

impl News {
    pub(super) fn push(&mut self, version: Arc<Version>) {
        if let Some(last) = self.versions.back()
            && version.job.revision <= last.job.revision
        {
            return;
        }
        if version.progress_only {
            // Of progress in a row only the newest counts.
            self.versions.pop_back_if(|last| last.progress_only);
        }
        self.versions.push_back(version);
        let mut held: usize = self.versions.iter().map(|version| version.bytes()).sum();
        while (self.versions.len() > VERSIONS || held > VERSIONS_BYTES)
            && self.versions.len() > 1
            && let Some(oldest) = self.versions.pop_front()
        {
            held -= oldest.bytes();
            if !oldest.progress_only {
                self.dropped = self.dropped.max(oldest.job.revision);
            }
        }
    }

    /// Takes what others did to the job; answers whether that is news.
    pub(super) fn catch_up(
        &mut self,
        version: Option<Arc<Version>>,
        changed: Option<u64>,
        deleted: bool,
    ) -> bool {
        let before = (self.newest_revision(), self.dropped, self.deleted);
        self.deleted |= deleted;
        if let Some(changed) = changed
            && !self.versions.iter().any(|v| v.job.revision == changed)
        {
            // It may be hidden behind progress that this process committed itself.
            self.dropped = self.dropped.max(changed);
        }
        if let Some(version) = version {
            self.push(version);
        }
        before != (self.newest_revision(), self.dropped, self.deleted)
    }

    fn newest_revision(&self) -> u64 {
        self.versions.back().map_or(0, |v| v.job.revision)
    }

    /// What a reader that has seen this revision is to see next, and whether more than progress has come since.
    pub(super) fn behind(&self, seen: u64) -> Option<(&Arc<Version>, bool)> {
        let mut newer = self.versions.iter().filter(|v| v.job.revision > seen);
        let oldest = newer.clone().next()?;
        if seen < self.dropped {
            return Some((oldest, true));
        }
        match newer.clone().find(|version| !version.progress_only) {
            Some(version) => Some((version, true)),
            None => newer.next_back().map(|version| (version, false)),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Topic(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    news: News,
    /// A seat for each watcher; with whom to wake, if it waits.
    seats: Slab<Option<Waker>>,
}

/// A watcher's place at a topic.
#[derive(Debug)]
pub(super) struct Seat(usize);

impl Topic {
    pub(super) fn new(draining: bool) -> Self {
        let topic = Self::default();
        topic.state().news.draining = draining;
        topic
    }

    pub(super) fn take_seat(&self) -> Seat {
        Seat(self.state().seats.insert(None))
    }

    /// To be called once for each seat, when its holder is done.
    pub(super) fn give_up(&self, seat: &Seat) {
        let waker = self.state().seats.try_remove(seat.0);
        // Without the lock: a waker may be the last that holds its task.
        drop(waker);
    }

    /// Nobody watches.
    pub(super) fn is_empty(&self) -> bool {
        self.state().seats.is_empty()
    }

    /// The newest version that is held; none of a job that is not there any more.
    pub(super) fn newest(&self) -> Option<Arc<Version>> {
        let news = &self.state().news;
        let newest = (!news.deleted).then(|| news.versions.back());
        newest.flatten().cloned()
    }

    /// Keeps a version that is not news for watchers that come later. A lone watcher has no use for it, and most jobs have one, so only what the
    /// second one read is kept.
    pub(super) fn seed(&self, version: &Arc<Version>) {
        let State { news, seats } = &mut *self.state();
        if news.versions.is_empty() && seats.len() > 1 {
            news.versions.push_back(Arc::clone(version));
        }
    }

    /// Whether this revision or a newer one is held.
    pub(super) fn has_told(&self, revision: u64) -> bool {
        self.state().news.newest_revision() >= revision
    }

    /// Changes what there is to know, and wakes those who wait.
    pub(super) fn tell(&self, change: impl FnOnce(&mut News)) {
        self.tell_if(|news| {
            change(news);
            true
        });
    }

    /// As [`Self::tell`], but wakes nobody if the answer is that nothing changed.
    pub(super) fn tell_if(&self, change: impl FnOnce(&mut News) -> bool) {
        let waiting: Vec<Waker> = {
            let State { news, seats } = &mut *self.state();
            if !change(news) {
                return;
            }
            seats
                .iter_mut()
                .filter_map(|(_, waker)| waker.take())
                .collect()
        };
        // Without the lock, which each of them will want.
        for waker in waiting {
            waker.wake();
        }
    }

    /// Resolves when `look` finds something; otherwise the seat's task is woken by the next news.
    pub(super) fn poll_news<T>(
        &self,
        seat: &Seat,
        cx: &mut Context<'_>,
        look: impl FnOnce(&News) -> Option<T>,
    ) -> Poll<T> {
        let mut state = self.state();
        let State { news, seats } = &mut *state;
        if let Some(found) = look(news) {
            return Poll::Ready(found);
        }
        let old = match seats.get_mut(seat.0) {
            Some(Some(waker)) if waker.will_wake(cx.waker()) => None,
            Some(waker) => waker.replace(cx.waker().clone()),
            None => None,
        };
        drop(state);
        // Without the lock, as above.
        drop(old);
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it was about to look, or to add what is whole in itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Bell {
        fn rung(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn is_deleted(topic: &Topic, seat: &Seat, bell: &Arc<Bell>) -> bool {
        let waker = Waker::from(Arc::clone(bell));
        let found = topic.poll_news(seat, &mut Context::from_waker(&waker), |news| {
            news.deleted.then_some(())
        });
        found.is_ready()
    }

    #[test]
    fn each_waiting_seat_is_woken_once_by_news() {
        let topic = Topic::new(false);
        let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
        let seats = [topic.take_seat(), topic.take_seat()];
        for (seat, bell) in seats.iter().zip(&bells) {
            assert!(!is_deleted(&topic, seat, bell));
            assert!(!is_deleted(&topic, seat, bell));
        }
        topic.tell(|news| news.deleted = true);
        topic.tell(|_| {});
        assert!(is_deleted(&topic, &seats[0], &bells[0]));
        assert_eq!(bells.map(|bell| bell.rung()), [1, 1]);
    }

    #[test]
    fn a_seat_wakes_whoever_polled_last() {
        let topic = Topic::new(false);
        let (before, after) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let seat = topic.take_seat();
        is_deleted(&topic, &seat, &before);
        is_deleted(&topic, &seat, &after);
        topic.tell(|news| news.deleted = true);
        assert_eq!((before.rung(), after.rung()), (0, 1));
    }

    #[test]
    fn a_seat_that_was_given_up_is_not_woken() {
        let topic = Topic::new(false);
        let bell = Arc::new(Bell::default());
        let seat = topic.take_seat();
        is_deleted(&topic, &seat, &bell);
        topic.give_up(&seat);
        assert!(topic.is_empty());
        topic.tell(|news| news.deleted = true);
        assert_eq!(bell.rung(), 0);
    }

    /// A job with a payload of so many bytes, at a revision.
    fn job(revision: u64, bytes: usize) -> Arc<Job> {
        use crate::domain::{
            Document, JobId, JobState, Status, TaskId, Tenant, Timestamp,
            job::ChildCounts,
            submission::{NewJob, NewTask, check},
            task::Task,
        };
        let task = NewTask {
            driver: "d".to_owned(),
            request_payload: Some(Document(vec![7; bytes].into())),
            ..NewTask::default()
        };
        let new = NewJob {
            tasks: vec![task],
            ..NewJob::default()
        };
        let now = Timestamp::default();
        let checked = check(new, "job", now, &mut Vec::new()).expect("a good job");
        let tasks = checked.tasks.into_iter();
        let tasks = tasks.map(|spec| Task::new(TaskId(uuid::Uuid::nil()), spec, now));
        Arc::new(Job {
            id: JobId(uuid::Uuid::nil()),
            tenant: Tenant::new("acme"),
            spec: Arc::new(checked.spec),
            request_id: String::new(),
            depth: 0,
            retry_of: None,
            state: JobState::Running,
            status: Status::Normal,
            last_error: String::new(),
            revision,
            tasks: tasks.collect(),
            children: ChildCounts::default(),
            cancel: None,
            timer: None,
            create_time: now,
            start_time: None,
            update_time: now,
            end_time: None,
            expire_time: None,
        })
    }

    #[test]
    fn versions_are_bounded_in_number_and_in_bytes() {
        for (bytes, held) in [(10, VERSIONS), (300_000, 4), (1_000_000, 2)] {
            let mut news = News::default();
            for revision in 1..=20 {
                news.push(Version::new(job(revision, bytes), false));
                // What nobody has read costs next to nothing: the payload is one for all versions.
                let read = news.versions.back().expect("what was pushed");
                read.encoded(0, |job| Bytes::from(vec![0; job.memory_bytes()]));
            }
            let newest = news.versions.back().map(|version| version.job.revision);
            assert_eq!((news.versions.len(), newest), (held, Some(20)), "{bytes}");
        }
    }

    #[test]
    fn progress_does_not_hide_a_change_that_is_not_held_any_more() {
        let mut news = News::default();
        news.push(Version::new(job(1, 10), false));
        news.push(Version::new(job(2, 10), false));
        news.push(Version::new(job(3, 10), true));
        let behind = |news: &News, seen| {
            let next = news.behind(seen);
            next.map(|(version, is_change)| (version.job.revision, is_change))
        };
        assert_eq!(behind(&news, 1), Some((2, true)));
        assert_eq!(behind(&news, 2), Some((3, false)));
        for version in &news.versions {
            version.encoded(0, |_| Bytes::from(vec![0; VERSIONS_BYTES]));
        }
        news.push(Version::new(job(4, 10), true));
        assert_eq!(news.versions.len(), 1);
        assert_eq!(behind(&news, 1), Some((4, true)), "revision 2 was a change");
        assert_eq!(behind(&news, 2), Some((4, false)));
        assert_eq!(behind(&news, 4), None);
    }
}
