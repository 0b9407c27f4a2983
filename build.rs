//! Rebuilds the binary when the built web page changes, which is embedded in it.

fn main() {
    // Cargo would run this on every build if the folder wasn't there. A failure shows as a missing page, not as a broken build.
    let _there_or_not = std::fs::create_dir_all("web/dist/assets");
    println!("cargo:rerun-if-changed=web/dist");
    println!("cargo:rerun-if-changed=web/dist/assets");
}
