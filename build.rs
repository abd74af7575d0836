//! Compiles `proto/` without a system `protoc`.
//!
//! Two passes over one descriptor set: messages and clients, which are public; then the server traits, which use the same messages but a codec with small
//! buffers, and for the watch stream a frame that is encoded once for all of its readers.

use std::{env, error::Error, path::PathBuf};

const PROTOS: [&str; 4] = [
    "longhaul/v1/job.proto",
    "longhaul/v1/job_service.proto",
    "longhaul/v1/worker_service.proto",
    "longhaul/v1/admin_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    // Comments are what reflection and the OpenAPI document have to say.
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(PROTOS)?;
    // With the HTTP form of each method, which the set of types below has no place for.
    let encoded = compiler.encode_file_descriptor_set();
    std::fs::write(out.join("descriptors.bin"), encoded)?;
    let descriptors = compiler.file_descriptor_set();

    let common = || {
        tonic_prost_build::configure()
            .bytes(".")
            .extern_path(".google.protobuf.Struct", "crate::proto::Struct")
            .extern_path(".google.rpc.Status", "::tonic_types::Status")
    };
    common()
        .build_server(false)
        .compile_fds(descriptors.clone())?;

    let server = out.join("server");
    std::fs::create_dir_all(&server)?;
    common()
        .build_client(false)
        .extern_path(
            ".longhaul.v1.WatchJobResponse",
            "crate::grpc::frame::WatchFrame",
        )
        .extern_path(".longhaul.v1", "crate::proto::v1")
        .codec_path("crate::grpc::codec::SmallBufferCodec")
        .out_dir(&server)
        .compile_fds(descriptors)?;
    Ok(())
}
