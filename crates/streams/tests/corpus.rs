//! Runs the fuzz targets over their corpus.

#[path = "../fuzz/bodies.rs"]
mod bodies;

#[test]
fn every_fuzz_target_stands_its_corpus() {
    for (target, body) in bodies::ALL {
        let corpus = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus}: {error}"));
        let mut ran = 0;
        for file in files {
            let path = file
                .unwrap_or_else(|error| panic!("{corpus}: {error}"))
                .path();
            println!("{}", path.display());
            body(
                &std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            );
            ran += 1;
        }
        assert!(ran > 0, "{corpus} is empty");
    }
}
