//! Tests of the pure core: by example for each rule, and by random histories against an audit that holds every batch to the invariants.
//!
//! [`world`] is a store in memory with a clock in hand; [`audit`], [`sound`] and [`registered`] know what must be true and nothing of how it is done; [`controls`] proves
//! that they can fail. No test sleeps, and none looks at a clock, but for one that prints how long a large job takes.

mod audit;
mod cancelling;
mod children;
mod claiming;
mod controls;
mod dependencies;
mod explaining;
mod filtering;
mod histories;
mod leases;
mod outcomes;
mod registered;
mod registering;
mod repeating;
mod retries;
mod secrets;
mod size;
mod sound;
mod store;
mod submissions;
mod timeouts;
mod trail;
mod world;
