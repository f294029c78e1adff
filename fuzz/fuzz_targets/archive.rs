#![no_main]

use std::io::Write;
use std::ops::ControlFlow;

use layout::Images;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a file for the archive");
    file.write_all(bytes).expect("an archive in the file");
    let Ok(images) = Images::open(file.path(), &std::env::temp_dir()) else {
        return;
    };
    let mut entries = 0;
    let _ = images.each_entry(|_| {
        entries += 1;
        if entries < 1000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
});
