//! The REST gateway: HTTP views of the same jobs that gRPC serves.
//!
//! [`routes`] turns a request on a configured path into a job. It has no sockets and decides nothing about jobs: what it renders is submitted like
//! any other job.

pub mod routes;
