//! What callers tried and may not do, on its way to the audit log.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;

use crate::{domain::access::Actor, engine::Engine};

/// Denials that may wait to be logged. Whoever is denied more than the log can take is counted, and said to be so.
const MAX_WAITING: usize = 256;
/// Characters of what was tried that are kept.
const MAX_CHARS: usize = 256;

/// Takes note; cheap to clone.
#[derive(Clone, Debug)]
pub struct Denials {
    sender: mpsc::Sender<Denial>,
    lost: Arc<AtomicU64>,
}

/// Somebody tried what they may not do.
#[derive(Debug)]
pub(super) struct Denial {
    actor: Actor,
    action: String,
    target: String,
}

impl Denials {
    pub(super) fn new() -> (Self, mpsc::Receiver<Denial>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let lost = Arc::default();
        (Self { sender, lost }, receiver)
    }

    /// Somebody tried something. Nobody waits for the log.
    pub fn note(&self, actor: Actor, action: &str, target: &str) {
        let shortened = |text: &str| text.chars().take(MAX_CHARS).collect();
        let denial = Denial {
            actor,
            action: shortened(action),
            target: shortened(target),
        };
        if self.sender.try_send(denial).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes one into the log.
    pub(super) async fn log(&self, engine: &Engine, denial: Denial) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "more calls were denied than the audit log could take");
        }
        let Denial {
            actor,
            action,
            target,
        } = denial;
        let (name, address) = (Arc::clone(&actor.name), actor.address.clone());
        tracing::info!(%name, address, action, "a call was denied");
        if let Err(error) = engine.note_denied(action, target, actor).await {
            tracing::warn!(%error, %name, address, "a denied call could not be written into the audit log");
        }
    }
}
