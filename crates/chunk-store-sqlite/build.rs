//! Rebuilds the crate when a migration changes, because the compiler does not see that the code reads them.

fn main() {
    let mut out = std::io::stdout();
    // Cargo reads this line; if it cannot be written there is nobody to tell.
    let _ = std::io::Write::write_all(&mut out, b"cargo::rerun-if-changed=migrations\n");
}
