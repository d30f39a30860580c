//! Links the library without the C start files and without a build identifier:
//! it needs neither, and depends on the Rust toolchain alone, so that the same
//! sources give the same bytes on every machine. Once loaded it stays: the system
//! keeps the address of its fault handler.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-nostartfiles");
        println!("cargo:rustc-cdylib-link-arg=-Wl,--build-id=none");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
