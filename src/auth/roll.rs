//! The credentials that are in use, as they were last read.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use dashmap::DashMap;
use tokio::{
    sync::{Semaphore, mpsc},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use super::{
    AuthError, AuthSettings, Denials, Holder, KeysError, LEEWAY, PREFIX, Presented, REFRESH,
    denials::Denial,
    holder::Credential,
    issuer::Issuer,
    jwt::{MAX_TOKEN_BYTES, Told},
    key::{SentKey, hex, sha256},
};
use crate::{
    domain::{
        Tenant, Timestamp,
        registry::{Administration, DEFAULT_TENANT, Entry, KeyEntry, Quotas, RecordKey},
    },
    engine::Engine,
    quota::Allowances,
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
    allowances: Allowances,
    issuer: Option<Issuer>,
    reading: Semaphore,
}

impl Authenticator {
    /// Asks for a credential if one is required; otherwise everybody may do everything, whatever they send.
    ///
    /// # Errors
    /// The issuer's keys can not be read.
    pub async fn start(
        engine: Engine,
        settings: AuthSettings,
    ) -> Result<(Self, Keeper), KeysError> {
        let allowances = Allowances::new(settings.quotas);
        let everybody = || Arc::new(Holder::everybody(&allowances));
        let everybody = (!settings.is_required).then(everybody);
        let issuer = match settings.tokens {
            Some((jwt, source)) => Some(Issuer::new(jwt, source).await?),
            None => None,
        };
        let (sender, denials) = Denials::new();
        let authenticator = Self {
            shared: Arc::new(Shared {
                engine,
                everybody,
                holders: DashMap::new(),
                allowances,
                issuer,
                reading: Semaphore::new(MAX_READING),
            }),
            denials: sender,
        };
        let keeper = Keeper {
            authenticator: authenticator.clone(),
            denials,
        };
        Ok((authenticator, keeper))
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
            Presented::Bearer(text) if self.is_token(text) => {
                let holder = self.remembered(&token_id(text))?;
                Some(holder.admit(None, now))
            }
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
            Presented::Bearer(text) if self.is_token(text) => {
                let told = self.verify(text, now).await?;
                let allowances = &self.shared.allowances;
                let holder = Holder::of_token(token_id(text).into(), told, allowances);
                let holder = Arc::new(holder);
                holder.admit(None, now).map(|holder| self.remember(holder))
            }
            Presented::Bearer(text) => {
                let sent = SentKey::parse(text)?;
                let entry = self.read(sent.id).await?.ok_or(AuthError::Invalid)?;
                Arc::new(self.of_key(entry))
                    .admit(Some(&sent), now)
                    .map(|holder| self.remember(holder))
            }
            Presented::Certificate(names) => {
                for name in names.iter() {
                    if let Some(entry) = self.read(&certificate_id(name)).await? {
                        let holder = Arc::new(self.of_key(entry)).admit(None, now);
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
        let Some(id) = holder.id().cloned() else {
            return holder;
        };
        if self.shared.holders.len() >= MAX_REMEMBERED {
            self.forget_the_unused(self.shared.engine.now());
        }
        // Even if there are too many: what is not remembered could not be ended.
        Arc::clone(&self.shared.holders.entry(id).or_insert(holder))
    }

    fn of_key(&self, entry: KeyEntry) -> Holder {
        Holder::of_key(entry, &self.shared.allowances)
    }

    fn is_token(&self, text: &str) -> bool {
        self.shared.issuer.is_some() && !text.starts_with(PREFIX) && text.len() <= MAX_TOKEN_BYTES
    }

    /// Who has a token.
    async fn verify(&self, token: &str, now: Timestamp) -> Result<Told, AuthError> {
        let issuer = self.shared.issuer.as_ref().ok_or(AuthError::Malformed)?;
        let _turn = self.shared.reading.acquire().await;
        let told = issuer.verify(token, now).await?;
        match self.is_enabled(&told.principal.tenant).await? {
            true => Ok(told),
            false => Err(AuthError::Invalid),
        }
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

    /// Whether the credentials of a tenant are good; takes note of its quotas.
    async fn is_enabled(&self, tenant: &Tenant) -> Result<bool, AuthError> {
        let entry = self.entry(&RecordKey::tenant(tenant)).await?;
        let (is_enabled, quotas) = match entry {
            Some(Entry::Tenant(entry)) => (!entry.is_disabled, entry.quotas),
            Some(Entry::Key(_) | Entry::DataKey(_)) => (false, Quotas::default()),
            None => (*tenant.0 == *DEFAULT_TENANT, Quotas::default()),
        };
        if is_enabled {
            self.shared.allowances.set(tenant, quotas);
        }
        Ok(is_enabled)
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
        if let Some(everybody) = &self.shared.everybody
            && let Err(error) = self.is_enabled(&everybody.principal.tenant).await
        {
            tracing::debug!(%error, "quotas stay as they were");
        }
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
        let now = self.shared.engine.now();
        let is_good = match &holder.credential {
            Credential::None => return,
            Credential::Token { end, key, .. } => {
                let issuer = self.shared.issuer.as_ref();
                let has_key = issuer.is_some_and(|issuer| issuer.has(key.as_deref()));
                has_key && *end > now.before(LEEWAY)
            }
            Credential::Key(old) => {
                let Ok(entry) = self.entry(&RecordKey::credential(&id.into())).await else {
                    return;
                };
                let is_same = |new: &KeyEntry| new.is_good(now) && new.proof == old.proof;
                matches!(entry, Some(Entry::Key(new)) if is_same(&new))
            }
        };
        let tenant = &holder.principal.tenant;
        let is_enabled = match tenants.get(tenant) {
            Some(known) => *known,
            None => match self.is_enabled(tenant).await {
                Ok(is_enabled) => *tenants.entry(tenant.clone()).or_insert(is_enabled),
                Err(_) => return,
            },
        };
        if !(is_good && is_enabled) {
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
            if holder.is_unnoted() && uses.len() < MAX_NOTED {
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
            let now = auth.shared.engine.now();
            if let Some(issuer) = &auth.shared.issuer {
                issuer.keep(now).await;
            }
            auth.refresh().await;
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

/// What a token is remembered by.
fn token_id(token: &str) -> String {
    let digest = sha256(token.as_bytes());
    format!("jwt:{}", hex(&digest))
}

/// The id of the credential that is a name in certificates.
pub fn certificate_id(name: &str) -> String {
    format!("cert:{name}")
}
