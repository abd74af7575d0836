//! What each method asks of its caller. The table is made of the contract's own words when the project is built.

use crate::domain::access::Permission;

include!(concat!(env!("OUT_DIR"), "/permissions.rs"));

/// Methods that are answered once, and may wait for that.
const WAITING: [&str; 3] = [
    "/longhaul.v1.JobService/Wait",
    "/longhaul.v1.WorkerService/Acquire",
    "/longhaul.v1.WorkerService/Report",
];

/// Whether an answer of this method may last.
pub(crate) fn lasts(path: &str) -> bool {
    STREAMING.contains(&path) || WAITING.contains(&path) || required(path).is_none()
}

/// What a method asks of its caller, by its path, such as `/longhaul.v1.JobService/Get`; `None` if there is no such method in the contract.
pub(crate) fn required(path: &str) -> Option<Permission> {
    let row = METHODS.iter().find(|(known, _)| *known == path);
    row.map(|(_, permission)| *permission)
}
