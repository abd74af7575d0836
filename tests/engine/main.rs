//! The engine over the memory store: what it promises whichever store it stands on.

mod clock;
mod dispatch;
mod failure;
mod follow;
mod group_commit;
mod reach;
mod registry;
mod rig;
mod select;
mod shared;
#[path = "../stores/shared.rs"]
mod shared_store;
mod sorted;
#[path = "../stores/tampered.rs"]
mod tampered;
mod watch;
