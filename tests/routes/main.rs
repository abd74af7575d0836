//! Asynchronous routes, as one who writes a route file meets them: what loads, what is refused and how, which request a route takes, and the
//! job that it makes. [`hostile`] holds templates and bodies that mean harm.

mod examples;
mod hostile;
mod loading;
mod mistakes;
mod paths;
mod rendering;
mod rig;
