//! The messages and clients generated from `proto/`, and [`Struct`], the form in which JSON objects travel.
//!
//! Must not know any other module of ours.

pub mod json;
pub mod sensitive;
mod structure;
mod unsaid;

pub use structure::{InvalidStruct, MAX_LEVELS, Struct};

/// Package `longhaul.v1`.
#[allow(missing_docs, clippy::allow_attributes, clippy::all, rust_2018_idioms)]
pub mod v1 {
    tonic::include_proto!("longhaul.v1");
}

/// The serialized `FileDescriptorSet` of everything served, imports included: for reflection and for JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
