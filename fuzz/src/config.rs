//! A `KubeProxyConfiguration`: read, filled in, checked; what is wrong is told.

use std::path::{Path, PathBuf};

use duolb::config::{Origin, file::ConfigFile, find_meaningless, resolve};

pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    match ConfigFile::parse(Path::new("config.yaml"), text) {
        Err(error) => {
            let told = error.to_string();
            assert!(told.starts_with("--config config.yaml: "), "{told}");
        }
        Ok(file) => {
            let _ = find_meaningless(&file.proxy);
            match resolve(file.proxy, Origin::File(PathBuf::from("config.yaml"))) {
                Ok(configuration) => assert!(!configuration.configz().is_empty()),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}
