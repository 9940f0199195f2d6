//! Replays the committed fuzz corpora under the stable toolchain: what was found once stays fixed.

use std::{fs, path::Path};

use tests::fuzz::TARGETS;

#[test]
fn every_committed_input_passes() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, run) in TARGETS {
        let mut inputs = 0;
        for entry in fs::read_dir(corpora.join(name)).expect("every target has a corpus") {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            run(&fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "the corpus of {name} is empty");
    }
}

#[test]
fn every_corpus_and_every_fuzz_target_is_known() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (dir, suffix) in [("corpus", ""), ("targets", ".rs")] {
        for entry in fs::read_dir(fuzz.join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let name = name.strip_suffix(suffix).unwrap_or(&name);
            assert!(TARGETS.iter().any(|(known, _)| *known == name), "{dir}/{name} belongs to no target");
        }
    }
}
