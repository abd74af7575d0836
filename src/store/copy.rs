//! Copying a store into another one, of whatever kind, while nobody serves either.
//!
//! Jobs are written in the order of their changes, each with everything that is kept of it, so that lists come out in the same order. The destination
//! bears a mark from before the first job until both stores were read again and found to be the same: it can not be served in between, and whatever
//! happens, the same copying goes on where it was. Tokens and credentials of the source are good at the destination, and data keys stay as they were
//! wrapped; positions in the feed mean nothing there, and the tombstones of removed jobs are left behind.
//!
//! A destination must be empty: without jobs, and without tenants, credentials, data keys or an audit log of its own. Nobody could say afterwards which of two
//! keys seals what, or who did what where.

mod beside;
mod compare;
mod contents;
mod digest;
mod mark;
mod plan;
mod reading;
mod writing;

use std::{fmt, sync::Arc};

pub use compare::{Difference, Differences, Unlike};
pub use contents::{Contents, Numbers, Records};
pub use digest::Checksum;
pub use mark::{HalfCopied, Names, half_copied};

use super::{ANNOUNCEMENT_LIFE, FeedCursor, Note, Store, StoreError, Writer};
use crate::domain::{JobKey, Tenant, wording::count};
use compare::Half;
use mark::CopyOf;
use reading::{Reading, Seen};
use writing::Writing;

/// Tenants whose counters are asked for at a time.
const TENANTS: usize = 1_000;

/// One of the two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is copied.
    Source,
    /// What it is copied to.
    Destination,
}

/// Why a copy was not made, or not finished.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A store failed.
    #[error("{side}: {error}")]
    Store {
        /// Which.
        side: Side,
        /// How.
        #[source]
        error: StoreError,
    },
    /// The disk of the destination is all but full.
    #[error("the destination: the disk that holds it is almost full")]
    Full,
    /// Somebody may change a store meanwhile.
    #[error("{side} is served by {}: stop whoever serves it, and wait {} s", count(*.nodes, "node"), ANNOUNCEMENT_LIFE.as_secs())]
    Served {
        /// Which.
        side: Side,
        /// By how many.
        nodes: usize,
    },
    /// Somebody changed a store while both were compared.
    #[error("{0} was changed while both were compared: stop whoever serves it")]
    Changed(Side),
    /// Jobs come to the destination from elsewhere.
    #[error("another copy writes to the destination: let it finish, or stop it")]
    OtherWriter,
    /// Both are one, or were made of one another file by file.
    #[error("source and destination are one store, or one is a copy of the other's files")]
    SameStore,
    /// The source is not whole.
    #[error("the source is {0}")]
    HalfSource(Box<HalfCopied>),
    /// The destination has jobs of its own.
    #[error(
        "the destination holds jobs already, and not from a copy that was broken off: choose another one, which is empty"
    )]
    NotEmpty,
    /// The destination has tenants, credentials, data keys or an audit log of its own.
    #[error(
        "the destination holds tenants, keys or an audit log of its own, as one does that was served: choose another one, which is empty; the keys of the source are good on the copy"
    )]
    OwnKeys,
    /// Another copy was broken off there.
    #[error("the destination is {0}")]
    OtherCopy(Box<HalfCopied>),
    /// The destination was a whole copy once.
    #[error(
        "the destination is a copy of the source that was finished, and has been changed since: nothing is left to copy"
    )]
    ChangedSince,
    /// The destination is not as the source.
    #[error("the copy differs from the source in {}", .0.count())]
    Differs(Differences),
    /// The destination is a whole copy, and not as the source is now.
    #[error("the copy was finished, and differs from the source as it is now in {}", .0.count())]
    Outdated(Differences),
    /// The destination is a whole copy, and it can not be said whether it is as the source is now.
    #[error("the copy was finished before, but could not be verified again: {0}")]
    Unverified(#[source] Box<CopyError>),
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Jobs are written.
    Copying,
    /// Both stores are read again and compared.
    Verifying,
    /// The same, of a copy that was finished before.
    Checking,
}

/// What the destination has of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// A part.
    Part,
    /// All of it: it was finished, and not changed since.
    Whole,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// With what.
    pub stage: Stage,
    /// Jobs that are done.
    pub done: u64,
    /// Jobs that there are.
    pub total: u64,
}

/// What there is to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Tenants that have jobs.
    pub tenants: u64,
    /// Jobs and tasks, as the source counts them.
    pub numbers: Numbers,
    /// Drivers that are paused.
    pub paused_drivers: usize,
    /// Records of tenants and credentials.
    pub records: Records,
    /// Whether there is an audit log.
    pub has_audit_log: bool,
    /// What the destination has of it already.
    pub standing: Standing,
}

/// A copy that was made and found to be as the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What is in both of them.
    pub contents: Contents,
    /// What the destination had of it before.
    pub standing: Standing,
}

/// A source and a destination.
pub struct Copying {
    from: Arc<dyn Store>,
    to: Arc<dyn Store>,
    names: Names,
}

impl Copying {
    /// Nothing is done yet.
    pub fn new(from: Arc<dyn Store>, to: Arc<dyn Store>, names: Names) -> Self {
        Self { from, to, names }
    }

    /// Whether it can be done, and what there is to do.
    ///
    /// # Errors
    /// It can not be done.
    pub async fn survey(&self) -> Result<Survey, CopyError> {
        if self.from.info().feed_id == self.to.info().feed_id {
            return Err(CopyError::SameStore);
        }
        let survey = survey(&self.from).await?;
        nobody_serves(&*self.to, Side::Destination).await?;
        let standing = match half_copied(&*self.to).await.map_err(written)? {
            Some(mark) if mark.feed_id == self.from.info().feed_id => Standing::Part,
            Some(mark) => return Err(CopyError::OtherCopy(mark.into())),
            None => {
                let held = self.to.tenants(None, 1).await.map_err(written)?;
                let beside = beside::is_there(&*self.to).await.map_err(written)?;
                match (held.is_empty(), beside) {
                    (true, false) => Standing::Nothing,
                    (false, _) => self.finished(CopyError::NotEmpty).await?,
                    (true, true) => self.finished(CopyError::OwnKeys).await?,
                }
            }
        };
        Ok(Survey { standing, ..survey })
    }

    /// Whether a destination that is not empty, and not marked, has all of this source and nothing else; what is to be said if it never had.
    async fn finished(&self, otherwise: CopyError) -> Result<Standing, CopyError> {
        let copy_of = mark::copy_of(&*self.to).await.map_err(written)?;
        let feed_id = self.from.info().feed_id;
        let Some(copy_of) = copy_of.filter(|copy_of| copy_of.feed_id == feed_id) else {
            return Err(otherwise);
        };
        let since = (&copy_of.end, &copy_of.beside);
        match is_unchanged(&self.to, since).await {
            Ok(true) => Ok(Standing::Whole),
            Ok(false) => Err(CopyError::ChangedSince),
            Err(error) => Err(written(error)),
        }
    }

    /// Copies, or goes on with it, and verifies. It can be dropped at any moment, and gone on with.
    ///
    /// # Errors
    /// It can not be done, was not finished, or the copy is not as the source. The destination then stays marked.
    pub async fn run(
        &self,
        report: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Copied, CopyError> {
        let survey = self.survey().await?;
        let (total, standing) = (survey.numbers.all_jobs(), survey.standing);
        let mut tell = |stage, done| report(Progress { stage, done, total });
        if standing == Standing::Whole {
            let checked = self.verify(&mut |done| tell(Stage::Checking, done)).await;
            let contents = checked.map_err(CopyError::of_finished)?;
            return Ok(Copied { contents, standing });
        }
        let mut writer = self.to.writer().map_err(written)?;
        self.mark(&mut *writer, standing).await?;
        let key = self.from.note(Note::TokenKey).await.map_err(read)?;
        let noted = writer.set_note(Note::TokenKey, key.as_deref()).await;
        noted.map_err(written)?;
        let mut writing = Writing {
            from: &self.from,
            to: &self.to,
            writer: &mut *writer,
            resumes: standing == Standing::Part,
        };
        writing.copy(&mut |done| tell(Stage::Copying, done)).await?;
        let contents = self
            .verify(&mut |done| tell(Stage::Verifying, done))
            .await?;
        self.unmark(&mut *writer).await?;
        Ok(Copied { contents, standing })
    }

    /// From here on no server serves the destination.
    async fn mark(&self, writer: &mut dyn Writer, standing: Standing) -> Result<(), CopyError> {
        let mark = HalfCopied {
            feed_id: self.from.info().feed_id,
            names: self.names.clone(),
        };
        let mark = mark.encode();
        let marked = writer.set_note(Note::HalfCopied, Some(&mark)).await;
        marked.map_err(written)?;
        // Who began to serve it at this moment, and did not see the mark, has said so before.
        let served = nobody_serves(&*self.to, Side::Destination).await;
        if served.is_err() && standing == Standing::Nothing {
            // It is theirs.
            let unmarked = writer.set_note(Note::HalfCopied, None).await;
            unmarked.map_err(written)?;
        }
        served
    }

    /// It is a copy now.
    async fn unmark(&self, writer: &mut dyn Writer) -> Result<(), CopyError> {
        let end = self.to.end_of_feed().await.map_err(written)?;
        let feed_id = self.from.info().feed_id;
        let beside = beside::Mark::of(&self.to).await.map_err(written)?;
        let copy_of = CopyOf {
            feed_id,
            end,
            beside,
        };
        let copy_of = copy_of.encode();
        let noted = writer.set_note(Note::CopyOf, Some(&copy_of)).await;
        noted.map_err(written)?;
        match writer.set_note(Note::HalfCopied, None).await {
            Ok(()) => Ok(()),
            Err(error @ StoreError::Fatal(_)) => Err(written(error)),
            // It may have been done, and the answer was lost.
            Err(error) => match half_copied(&*self.to).await {
                Ok(None) => Ok(()),
                Ok(Some(_)) | Err(_) => Err(written(error)),
            },
        }
    }

    /// Compares both stores; nobody may change them meanwhile.
    async fn verify(&self, report: &mut (dyn FnMut(u64) + Send)) -> Result<Contents, CopyError> {
        let sides = [(&self.from, Side::Source), (&self.to, Side::Destination)];
        let mut ends = Vec::with_capacity(sides.len());
        for (store, side) in sides {
            let failed = |error| CopyError::Store { side, error };
            let end = store.end_of_feed().await.map_err(failed)?;
            ends.push((end, beside::Mark::of(store).await.map_err(failed)?));
        }
        let contents = self.compare(report).await?;
        // Whoever serves now may change something yet; whoever has served and gone may have changed what had been read.
        for ((store, side), (end, beside)) in sides.into_iter().zip(&ends) {
            nobody_serves(&**store, side).await?;
            let unchanged = is_unchanged(store, (end, beside)).await;
            if !unchanged.map_err(|error| CopyError::Store { side, error })? {
                return Err(CopyError::Changed(side));
            }
        }
        Ok(contents)
    }

    /// Reads both stores again, and compares.
    async fn compare(&self, report: &mut (dyn FnMut(u64) + Send)) -> Result<Contents, CopyError> {
        let mut differences = Differences::default();
        let (mut from, mut to) = (Half::default(), Half::default());
        let (here, there) = (&mut from.contents, &mut to.contents);
        beside::compare((&self.from, here), (&self.to, there), &mut differences).await?;
        let mut source = reading::seen(Arc::clone(&self.from));
        let mut destination = reading::seen(Arc::clone(&self.to));
        let mut here = next(&mut source, None).await.map_err(read)?;
        let mut there = next(&mut destination, None).await.map_err(written)?;
        report(0);
        while here.is_some() || there.is_some() {
            let (here_is_done, there_is_done) = differences.compare(here.as_ref(), there.as_ref());
            if here_is_done && let Some(seen) = &here {
                let _ended = from.note(seen);
                if from.contents.numbers.all_jobs() % 1_000 == 0 {
                    report(from.contents.numbers.all_jobs());
                }
                here = next(&mut source, Some(&seen.key)).await.map_err(read)?;
            }
            if there_is_done && let Some(seen) = &there {
                let ended = to.note(seen);
                if !seen.weighed.is_queued {
                    differences.add(Difference::Job(
                        seen.key.clone(),
                        vec!["its place in the queue"],
                    ));
                }
                self.recount(ended, &mut differences).await?;
                there = next(&mut destination, Some(&seen.key))
                    .await
                    .map_err(written)?;
            }
        }
        report(from.contents.numbers.all_jobs());
        self.recount(to.end(), &mut differences).await?;
        self.compare_the_rest(&mut differences).await?;
        if differences.is_empty() && from.contents != to.contents {
            differences.add(Difference::Other("counts or checksums differ"));
        }
        match differences.is_empty() {
            true => Ok(to.contents),
            false => Err(CopyError::Differs(differences)),
        }
    }

    /// Holds the counters of the destination to what is there.
    async fn recount(
        &self,
        tenant: Option<(Tenant, Numbers)>,
        differences: &mut Differences,
    ) -> Result<(), CopyError> {
        let Some((tenant, found)) = tenant else {
            return Ok(());
        };
        let mut counted = Numbers::default();
        counted.add(&self.to.counts(&tenant).await.map_err(written)?);
        for difference in counted.differences(&found) {
            differences.add(Difference::Counter(tenant.clone(), difference));
        }
        Ok(())
    }

    async fn compare_the_rest(&self, differences: &mut Differences) -> Result<(), CopyError> {
        let here = self.from.paused_drivers().await.map_err(read)?;
        if here != self.to.paused_drivers().await.map_err(written)? {
            differences.add(Difference::Other("other drivers are paused"));
        }
        let here = self.from.note(Note::TokenKey).await.map_err(read)?;
        if here != self.to.note(Note::TokenKey).await.map_err(written)? {
            differences.add(Difference::Other("tokens are sealed with another key"));
        }
        Ok(())
    }
}

/// Whether a store can be copied, and what of it.
///
/// # Errors
/// It can not be copied.
pub async fn survey(source: &Arc<dyn Store>) -> Result<Survey, CopyError> {
    let from = &**source;
    nobody_serves(from, Side::Source).await?;
    if let Some(mark) = half_copied(from).await.map_err(read)? {
        return Err(CopyError::HalfSource(mark.into()));
    }
    let mut survey = Survey {
        tenants: 0,
        numbers: Numbers::default(),
        paused_drivers: from.paused_drivers().await.map_err(read)?.len(),
        records: Records::default(),
        has_audit_log: beside::has_log(from).await.map_err(read)?,
        standing: Standing::Nothing,
    };
    let mut records = reading::records(Arc::clone(source));
    while let Some(record) = records.next().await.map_err(read)? {
        survey.records.count(record.key().kind);
    }
    let mut last = None;
    loop {
        let tenants = from.tenants(last.as_ref(), TENANTS).await.map_err(read)?;
        for tenant in &tenants {
            survey.tenants += 1;
            survey
                .numbers
                .add(&from.counts(tenant).await.map_err(read)?);
        }
        match tenants.into_iter().next_back() {
            Some(tenant) => last = Some(tenant),
            None => return Ok(survey),
        }
    }
}

/// The next job, which must come behind the one before: whoever compares relies on it.
async fn next(
    reading: &mut Reading<Seen>,
    before: Option<&JobKey>,
) -> Result<Option<Seen>, StoreError> {
    let next = reading.next().await?;
    match &next {
        Some(seen) if Some(&seen.key) <= before => Err(StoreError::Corrupt(format!(
            "job {} comes out of order",
            seen.key.job
        ))),
        _ => Ok(next),
    }
}

/// Whether nothing has happened to a store since its feed ended there, and this stood beside the jobs.
async fn is_unchanged(
    store: &Arc<dyn Store>,
    (since, beside): (&FeedCursor, &beside::Mark),
) -> Result<bool, StoreError> {
    if beside::Mark::of(store).await? != *beside {
        return Ok(false);
    }
    let Some(tail) = store.tail() else {
        return Ok(store.end_of_feed().await? == *since);
    };
    // A cursor alone does not tell: what is pending may be of other databases on the same server.
    let stretch = tail.read(since).await?;
    Ok(stretch.events.is_empty() && stretch.until.is_of_the_era_of(since))
}

async fn nobody_serves(store: &dyn Store, side: Side) -> Result<(), CopyError> {
    let others = store.others().await;
    match others.map_err(|error| CopyError::Store { side, error })? {
        0 => Ok(()),
        nodes => Err(CopyError::Served { side, nodes }),
    }
}

fn read(error: StoreError) -> CopyError {
    let side = Side::Source;
    CopyError::Store { side, error }
}

fn written(error: StoreError) -> CopyError {
    let side = Side::Destination;
    CopyError::Store { side, error }
}

impl CopyError {
    /// The same of a copy that was finished.
    fn of_finished(self) -> Self {
        match self {
            Self::Differs(differences) => Self::Outdated(differences),
            error => Self::Unverified(error.into()),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "the source",
            Self::Destination => "the destination",
        })
    }
}
