//! What the embedded store costs, without network: `cargo bench --bench store`, or `cargo bench --bench store -- scale` for large stores.
//!
//! Each turn does what the commit loop does: load, decide, commit. The floor is the same rows put into the same tables with bare prepared
//! statements. Both run by turns, because machines are noisy, and medians are printed. `--dir DIR` chooses the disk.

#![expect(clippy::print_stdout, reason = "a bench talks to whoever runs it")]

mod floor;
mod scale;
mod server;
mod write;

use std::path::PathBuf;

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut dir = std::env::temp_dir();
    let mut scale = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--dir" => dir = PathBuf::from(words.next().expect("--dir is followed by a directory")),
            "scale" => scale = true,
            // Cargo says this to every bench.
            "--bench" => {}
            other => panic!("unknown argument {other:?}; there are `scale` and `--dir DIR`"),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without IO needs nothing");
    if scale {
        runtime.block_on(scale::run(&dir));
    } else {
        runtime.block_on(write::run(&dir));
    }
}
