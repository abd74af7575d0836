//! Compiles `proto/` without a system `protoc`.
//!
//! Two passes over one descriptor set: messages and clients, which are public; then the server traits, which use the same messages but a codec with small
//! buffers, and for the watch stream a frame that is encoded once for all of its readers.

use std::{env, error::Error, fmt::Write as _, path::PathBuf};

use protox::prost_reflect::{DescriptorPool, MethodDescriptor};

const PROTOS: [&str; 5] = [
    "longhaul/v1/access.proto",
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
    std::fs::write(
        out.join("permissions.rs"),
        permissions(&compiler.descriptor_pool())?,
    )?;
    let descriptors = compiler.file_descriptor_set();

    let common = || {
        tonic_prost_build::configure()
            .bytes(".")
            // They have secrets in them: see `proto/unsaid.rs`.
            .skip_debug([".longhaul.v1.JobTaskSpec", ".longhaul.v1.Lease"])
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

/// What each method asks of its caller, as the contract says. A method that does not say stops the build.
fn permissions(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let (mut rows, mut streaming) = (String::new(), String::new());
    let methods = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    for method in methods {
        let (service, name) = (
            method.parent_service().full_name().to_owned(),
            method.name(),
        );
        let permission = permission(pool, &method)
            .ok_or_else(|| format!("{service}.{name} does not say (longhaul.v1.permission)"))?;
        if method.is_server_streaming() {
            writeln!(streaming, "    \"/{service}/{name}\",")?;
        }
        writeln!(
            rows,
            "    (\"/{service}/{name}\", Permission::{permission}),"
        )?;
    }
    Ok(format!(
        "/// Of each method of the contract, by its path.\nconst METHODS: &[(&str, Permission)] = &[\n{rows}];\n/// Methods that answer with a stream.\nconst STREAMING: &[&str] = &[\n{streaming}];\n"
    ))
}

/// The permission's name as an identifier.
fn permission(pool: &DescriptorPool, method: &MethodDescriptor) -> Option<String> {
    let extension = pool.get_extension_by_name("longhaul.v1.permission")?;
    let options = method.options();
    let number = options.get_extension(&extension).as_enum_number()?;
    let values = pool.get_enum_by_name("longhaul.v1.Permission")?;
    let value = values.get_value(number).filter(|_| number > 0)?;
    let name = value.name().strip_prefix("PERMISSION_")?.to_lowercase();
    let (first, rest) = name.split_at_checked(1)?;
    Some(first.to_uppercase() + rest)
}
