//! The credentials that are in use, as they were last read.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use tokio::{
    sync::{Semaphore, mpsc},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use super::{
    AuthError, Denials, Presented, REFRESH, denials::Denial, everybody, key::SentKey, name_of_key,
};
use crate::{
    domain::{
        Tenant, Timestamp,
        access::Principal,
        registry::{
            Administration, DEFAULT_TENANT, Entry, KeyEntry, Proof, RecordKey, TenantEntry,
        },
    },
    engine::Engine,
};

/// Credentials that are remembered; each of those beyond is read with every call.
const MAX_REMEMBERED: usize = 100_000;
/// Credentials that nobody has seen yet, and that are read at a time: guessing is cheap for whoever guesses, and must be so for everybody else.
const MAX_READING: usize = 4;
/// How long a credential is remembered that nobody uses.
const FORGET: Duration = Duration::from_secs(60);
/// How often the last use of a credential is noted.
const NOTE: Duration = Duration::from_secs(60);
/// Uses that are noted in one commit.
const MAX_NOTED: usize = 500;

/// Somebody who was found out to hold a credential.
#[derive(Debug)]
pub struct Holder {
    /// Who.
    pub principal: Arc<Principal>,
    /// Cancelled when the credential is no longer good.
    ended: CancellationToken,
    entry: Option<KeyEntry>,
    /// When it was last used, and up to when that was noted: microseconds since 1970.
    used: AtomicI64,
    noted: AtomicI64,
}

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    shared: Arc<Shared>,
    denials: Denials,
}

/// What an authenticator needs to be done beside calls.
pub struct Keeper {
    authenticator: Authenticator,
    denials: mpsc::Receiver<Denial>,
}

struct Shared {
    engine: Engine,
    /// Who calls without a credential, if anybody may.
    everybody: Option<Arc<Holder>>,
    /// By the id of their credential.
    holders: DashMap<Arc<str>, Arc<Holder>>,
    reading: Semaphore,
}

impl Holder {
    fn new(principal: Principal, entry: Option<KeyEntry>) -> Self {
        Self {
            principal: principal.into(),
            ended: CancellationToken::new(),
            entry,
            used: AtomicI64::default(),
            noted: AtomicI64::default(),
        }
    }

    fn of(entry: KeyEntry) -> Self {
        let principal = Principal {
            name: name_of_key(&entry.id),
            tenant: entry.tenant.clone(),
            roles: entry.roles,
            drivers: entry.drivers.clone(),
            everywhere: entry.everywhere,
        };
        Self::new(principal, Some(entry))
    }

    fn use_now(self: Arc<Self>, now: Timestamp) -> Arc<Self> {
        self.used.store(now.as_micros(), Ordering::Relaxed);
        self
    }

    fn last_use(&self) -> Timestamp {
        Timestamp::from_micros(self.used.load(Ordering::Relaxed))
    }
}

impl Authenticator {
    /// Asks for a credential if one is required; otherwise everybody may do everything, whatever they send.
    pub fn new(engine: Engine, is_required: bool) -> (Self, Keeper) {
        let everybody = (!is_required).then(|| Arc::new(Holder::new(everybody(), None)));
        let (sender, denials) = Denials::new();
        let authenticator = Self {
            shared: Arc::new(Shared {
                engine,
                everybody,
                holders: DashMap::new(),
                reading: Semaphore::new(MAX_READING),
            }),
            denials: sender,
        };
        let keeper = Keeper {
            authenticator: authenticator.clone(),
            denials,
        };
        (authenticator, keeper)
    }

    /// Where it is told that somebody tried what they may not do.
    pub fn denials(&self) -> Denials {
        self.denials.clone()
    }

    /// Who calls, if that is known without reading anything.
    pub fn recall(&self, presented: &Presented) -> Option<Result<Arc<Holder>, AuthError>> {
        if let Some(everybody) = &self.shared.everybody {
            return Some(Ok(Arc::clone(everybody)));
        }
        let now = self.shared.engine.now();
        match presented {
            Presented::Nothing => Some(Err(AuthError::Required)),
            Presented::Unreadable => Some(Err(AuthError::Malformed)),
            Presented::Bearer(text) => match SentKey::parse(text) {
                Err(error) => Some(Err(error)),
                Ok(sent) => {
                    let holder = self.remembered(sent.id)?;
                    Some(holder.admit(Some(&sent), now))
                }
            },
            Presented::Certificate(names) => {
                let known = names
                    .iter()
                    .find_map(|name| self.remembered(&certificate_id(name)));
                known.map(|holder| holder.admit(None, now))
            }
        }
    }

    /// Who calls.
    ///
    /// # Errors
    /// Nobody is known to.
    pub async fn find(&self, presented: &Presented) -> Result<Arc<Holder>, AuthError> {
        if let Some(known) = self.recall(presented) {
            return known;
        }
        let now = self.shared.engine.now();
        match presented {
            Presented::Nothing => Err(AuthError::Required),
            Presented::Unreadable => Err(AuthError::Malformed),
            Presented::Bearer(text) => {
                let sent = SentKey::parse(text)?;
                let entry = self.read(sent.id).await?.ok_or(AuthError::Invalid)?;
                Arc::new(Holder::of(entry))
                    .admit(Some(&sent), now)
                    .map(|holder| self.remember(holder))
            }
            Presented::Certificate(names) => {
                for name in names.iter() {
                    if let Some(entry) = self.read(&certificate_id(name)).await? {
                        let holder = Arc::new(Holder::of(entry)).admit(None, now);
                        return holder.map(|holder| self.remember(holder));
                    }
                }
                Err(AuthError::Invalid)
            }
        }
    }

    /// Looks at all that is in use again at once: a tenant was changed here.
    pub async fn look_again_at_all(&self) {
        self.refresh().await;
    }

    /// Looks at a credential again at once: it was changed here.
    pub async fn look_again(&self, id: &str) {
        if let Some(holder) = self.remembered(id) {
            self.refresh_one(id, &holder, &mut HashMap::new()).await;
        }
    }

    fn remembered(&self, id: &str) -> Option<Arc<Holder>> {
        let holder = self.shared.holders.get(id)?;
        Some(Arc::clone(&holder))
    }

    /// If two calls have found out the same at once, both get the same holder: there is one to be ended.
    fn remember(&self, holder: Arc<Holder>) -> Arc<Holder> {
        let Some(entry) = &holder.entry else {
            return holder;
        };
        let id = Arc::clone(&entry.id);
        if self.shared.holders.len() >= MAX_REMEMBERED {
            self.forget_the_unused(self.shared.engine.now());
        }
        // Even if there are too many: what is not remembered could not be ended.
        Arc::clone(&self.shared.holders.entry(id).or_insert(holder))
    }

    /// The credential with this id, of a tenant that is not disabled.
    async fn read(&self, id: &str) -> Result<Option<KeyEntry>, AuthError> {
        let _turn = self.shared.reading.acquire().await;
        let key = self.entry(&RecordKey::credential(&id.into())).await?;
        let Some(Entry::Key(key)) = key else {
            return Ok(None);
        };
        Ok(self.is_enabled(&key.tenant).await?.then_some(key))
    }

    async fn is_enabled(&self, tenant: &Tenant) -> Result<bool, AuthError> {
        Ok(match self.entry(&RecordKey::tenant(tenant)).await? {
            Some(Entry::Tenant(TenantEntry { is_disabled, .. })) => !is_disabled,
            Some(Entry::Key(_) | Entry::DataKey(_)) => false,
            None => *tenant.0 == *DEFAULT_TENANT,
        })
    }

    async fn entry(&self, key: &RecordKey) -> Result<Option<Entry>, AuthError> {
        let record = self.shared.engine.record(key).await;
        let record = record.map_err(|error| AuthError::Unavailable(error.to_string()))?;
        Ok(record.map(|record| record.entry))
    }

    async fn refresh(&self) {
        self.forget_the_unused(self.shared.engine.now());
        let all = self.shared.holders.iter();
        let all: Vec<_> = all
            .map(|at| (Arc::clone(at.key()), Arc::clone(at.value())))
            .collect();
        let mut tenants = HashMap::new();
        for (id, holder) in all {
            self.refresh_one(&id, &holder, &mut tenants).await;
        }
    }

    /// Reads a credential again; what can not be read stays as it was.
    async fn refresh_one(
        &self,
        id: &str,
        holder: &Arc<Holder>,
        tenants: &mut HashMap<Tenant, bool>,
    ) {
        let Ok(entry) = self.entry(&RecordKey::credential(&id.into())).await else {
            return;
        };
        let now = self.shared.engine.now();
        let is_same = match (entry, &holder.entry) {
            (Some(Entry::Key(new)), Some(old)) => new.is_good(now) && new.proof == old.proof,
            _ => false,
        };
        let tenant = &holder.principal.tenant;
        let is_enabled = match tenants.get(tenant) {
            Some(known) => *known,
            None => match self.is_enabled(tenant).await {
                Ok(is_enabled) => *tenants.entry(tenant.clone()).or_insert(is_enabled),
                Err(_) => return,
            },
        };
        if !(is_same && is_enabled) {
            // Before it ends, so that nobody is told of it any more.
            self.shared.holders.remove(id);
            holder.ended.cancel();
        }
    }

    /// Forgets who has not called for a while and follows nothing.
    fn forget_the_unused(&self, now: Timestamp) {
        self.shared.holders.retain(|_, holder| {
            let is_idle = now.since(holder.last_use()) >= FORGET;
            let is_noted =
                holder.noted.load(Ordering::Relaxed) >= holder.used.load(Ordering::Relaxed);
            !(is_idle && is_noted && Arc::strong_count(holder) == 1)
        });
    }

    async fn note_uses(&self) {
        let mut uses = Vec::new();
        let mut taken = Vec::new();
        for holder in &self.shared.holders {
            let used = holder.used.load(Ordering::Relaxed);
            if used > holder.noted.load(Ordering::Relaxed) && uses.len() < MAX_NOTED {
                uses.push((Arc::clone(holder.key()), Timestamp::from_micros(used)));
                taken.push((Arc::clone(holder.value()), used));
            }
        }
        if uses.is_empty() {
            return;
        }
        let noted = self
            .shared
            .engine
            .administer(Administration::NoteUses(uses), None);
        match noted.await {
            Ok(_) => {
                for (holder, used) in taken {
                    holder.noted.fetch_max(used, Ordering::Relaxed);
                }
            }
            Err(error) => tracing::debug!(%error, "when keys were last used is noted later"),
        }
    }
}

impl Keeper {
    /// Reads again what is in use, notes when it was, and writes down who was denied, until it is stopped.
    pub async fn run(mut self, stopped: CancellationToken) {
        let auth = self.authenticator;
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut noted = auth.shared.engine.now();
        loop {
            tokio::select! {
                () = stopped.cancelled() => break,
                Some(denial) = self.denials.recv() => {
                    auth.denials.log(&auth.shared.engine, denial).await;
                    continue;
                }
                _ = ticks.tick() => {}
            }
            auth.refresh().await;
            let now = auth.shared.engine.now();
            if now.since(noted) >= NOTE {
                noted = now;
                auth.note_uses().await;
            }
        }
        while let Ok(denial) = self.denials.try_recv() {
            auth.denials.log(&auth.shared.engine, denial).await;
        }
        auth.note_uses().await;
    }
}

impl Holder {
    /// What tells that the credential is no longer good; `None` if it always is.
    pub fn end(&self) -> Option<&CancellationToken> {
        self.entry.is_some().then_some(&self.ended)
    }

    /// Whether the credential is good, and was sent by its holder.
    fn admit(
        self: Arc<Self>,
        sent: Option<&SentKey<'_>>,
        now: Timestamp,
    ) -> Result<Arc<Self>, AuthError> {
        let Some(entry) = &self.entry else {
            return Ok(self);
        };
        let is_proven = match (&entry.proof, sent) {
            (Proof::Secret(digest), Some(sent)) => sent.fits(digest),
            (Proof::Certificate(_), None) => true,
            (Proof::Secret(_), None) | (Proof::Certificate(_), Some(_)) => false,
        };
        if !is_proven || entry.revoke_time.is_some() || self.ended.is_cancelled() {
            return Err(AuthError::Invalid);
        }
        match entry.has_expired(now) {
            true => Err(AuthError::Expired),
            false => Ok(self.use_now(now)),
        }
    }
}

/// The id of the credential that is a name in certificates.
pub fn certificate_id(name: &str) -> String {
    format!("cert:{name}")
}
