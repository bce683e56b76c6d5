//! What the product knows about other services: a folder of data for each, and the pure code that reads their requests,
//! checks their signatures and fills in their secrets.

pub mod auth;
pub mod charset;
pub mod decode;
pub mod form;
pub mod identity;
pub mod pairs;
pub mod signature;
pub mod typed;

/// The connectors that come with the product: path below `catalog/` and text of each `connector.yaml`, sorted.
pub fn builtin() -> &'static [(&'static str, &'static [u8])] {
    include!(concat!(env!("OUT_DIR"), "/catalog.rs"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_folders_of_the_catalog_are_built_in_without_their_tests() {
        let paths: Vec<&str> = super::builtin().iter().map(|(path, _)| *path).collect();
        for name in ["calltouch", "http", "mindbox", "webhook"] {
            assert!(paths.contains(&format!("{name}/connector.yaml").as_str()), "{name}");
        }
        assert!(paths.iter().all(|path| path.ends_with("/connector.yaml")), "{paths:?}");
    }
}
