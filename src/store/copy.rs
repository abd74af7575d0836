//! Copying a store into another one, of whatever kind, while nobody serves either.
//!
//! Jobs are written in the order of their changes, each with everything that is kept of it, so that lists come out in the same order. The destination
//! bears a mark from before the first job until both stores were read again and found to be the same: it can not be served in between, and whatever
//! happens, the same copying goes on where it was. Tokens of the source are good at the destination; positions in the feed are not, and the tombstones of
//! removed jobs are left behind.

mod compare;
mod contents;
mod digest;
mod mark;
mod plan;
mod reading;

use std::{collections::HashMap, fmt, sync::Arc};

pub use compare::{Difference, Differences};
pub use contents::{Contents, Numbers};
pub use digest::Checksum;
pub use mark::{HalfCopied, Names, half_copied};

use super::{
    ANNOUNCEMENT_LIFE, Kept, Locked, MAX_KEPT_EVENTS, Note, Scan, Store, StoreError, Writer,
};
use crate::domain::{Job, JobKey, Tenant, command::Changes, wording::count};
use compare::Half;
use reading::{Reading, Seen};

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
    /// Another copy was broken off there.
    #[error("the destination is {0}")]
    OtherCopy(Box<HalfCopied>),
    /// The destination is not as the source.
    #[error("the copy differs from the source in {}", .0.count())]
    Differs(Differences),
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Jobs are written.
    Copying,
    /// Both stores are read again and compared.
    Verifying,
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
    /// The destination has a part of it already.
    pub resumes: bool,
}

/// A copy that was made and found to be as the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What is in both of them.
    pub contents: Contents,
    /// It had been begun before.
    pub resumed: bool,
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
        let survey = survey(&*self.from).await?;
        nobody_serves(&*self.to, Side::Destination).await?;
        let resumes = match half_copied(&*self.to).await.map_err(written)? {
            Some(mark) if mark.feed_id == self.from.info().feed_id => true,
            Some(mark) => return Err(CopyError::OtherCopy(mark.into())),
            None => {
                let held = self.to.tenants(None, 1).await.map_err(written)?;
                if !held.is_empty() {
                    return Err(CopyError::NotEmpty);
                }
                false
            }
        };
        Ok(Survey { resumes, ..survey })
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
        let total = survey.numbers.all_jobs();
        let mut writer = self.to.writer().map_err(written)?;
        let mark = HalfCopied {
            feed_id: self.from.info().feed_id,
            names: self.names.clone(),
        };
        let mut note =
            async |note, value: Option<&[u8]>| writer.set_note(note, value).await.map_err(written);
        note(Note::HalfCopied, Some(&mark.encode())).await?;
        let key = self.from.note(Note::TokenKey).await.map_err(read)?;
        note(Note::TokenKey, key.as_deref()).await?;
        self.copy(&mut *writer, &survey, &mut |done| {
            let stage = Stage::Copying;
            report(Progress { stage, done, total });
        })
        .await?;
        let contents = self
            .verify(&mut |done| {
                let stage = Stage::Verifying;
                report(Progress { stage, done, total });
            })
            .await?;
        // Who began to serve meanwhile may have changed what had been read.
        nobody_serves(&*self.from, Side::Source).await?;
        nobody_serves(&*self.to, Side::Destination).await?;
        let unmarked = writer.set_note(Note::HalfCopied, None).await;
        unmarked.map_err(written)?;
        Ok(Copied {
            contents,
            resumed: survey.resumes,
        })
    }

    async fn copy(
        &self,
        writer: &mut dyn Writer,
        survey: &Survey,
        report: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), CopyError> {
        let mut pages = reading::kept(Arc::clone(&self.from), Scan::ByChange(None));
        let mut done = 0;
        report(done);
        while let Some(page) = pages.page().await.map_err(read)? {
            done += page.len() as u64;
            let there = match survey.resumes {
                true => revisions(writer, &page).await.map_err(written)?,
                false => HashMap::new(),
            };
            for step in plan::steps(page, &there) {
                write(writer, &step.changes).await?;
                if let Some((job, after)) = step.rest {
                    self.follow_up(writer, &job, after).await?;
                }
            }
            report(done);
        }
        let here = self.from.paused_drivers().await.map_err(read)?;
        let there = self.to.paused_drivers().await.map_err(written)?;
        write(writer, &plan::drivers(here, &there)).await
    }

    /// Writes the events of a job that has too many for one commit.
    async fn follow_up(
        &self,
        writer: &mut dyn Writer,
        job: &Arc<Job>,
        mut after: u64,
    ) -> Result<(), CopyError> {
        loop {
            let events = self.from.events(&job.key(), after, MAX_KEPT_EVENTS).await;
            let events = events.map_err(read)?;
            let Some(last) = events.last().map(|event| event.revision) else {
                return Ok(());
            };
            write(writer, &plan::continuation(job, events)).await?;
            after = last;
        }
    }

    /// Reads both stores again, and compares.
    async fn verify(&self, report: &mut (dyn FnMut(u64) + Send)) -> Result<Contents, CopyError> {
        let mut differences = Differences::default();
        let (mut from, mut to) = (Half::default(), Half::default());
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
pub async fn survey(from: &dyn Store) -> Result<Survey, CopyError> {
    nobody_serves(from, Side::Source).await?;
    if let Some(mark) = half_copied(from).await.map_err(read)? {
        return Err(CopyError::HalfSource(mark.into()));
    }
    let mut survey = Survey {
        tenants: 0,
        numbers: Numbers::default(),
        paused_drivers: from.paused_drivers().await.map_err(read)?.len(),
        resumes: false,
    };
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

/// What the destination has of these jobs.
async fn revisions(
    writer: &mut dyn Writer,
    page: &[Kept],
) -> Result<HashMap<JobKey, u64>, StoreError> {
    let keys: Vec<JobKey> = page.iter().map(|kept| kept.job.key()).collect();
    writer.begin().await?;
    let jobs = writer.jobs(&keys, Locked::Wait).await;
    writer.rollback().await;
    let jobs = jobs?.into_iter();
    Ok(jobs.map(|job| (job.key(), job.revision)).collect())
}

async fn write(writer: &mut dyn Writer, changes: &Changes) -> Result<(), CopyError> {
    if changes.is_empty() {
        return Ok(());
    }
    // What is left is the server's, to end what it has begun.
    if writer.is_low_on_space() {
        return Err(CopyError::Full);
    }
    writer.begin().await.map_err(written)?;
    writer.commit(changes).await.map_err(written)?;
    Ok(())
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

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "the source",
            Self::Destination => "the destination",
        })
    }
}
