//! The REST gateway as its clients see it: a real server, plain HTTP.

mod hostile;
mod native;
mod nse;
mod web;
