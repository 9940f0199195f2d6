//! Whether names resolve on a lab's host, asked as a program would. Before and after: [`super::Lab`].

use super::Lab;
use crate::process;

impl Lab {
    /// Whether `web.shop` has its address in the cluster.
    pub fn cluster_names_resolve(&self) -> bool {
        self.resolves("web.shop", "10.96.0.20")
    }

    /// Whether `www.example.test` has the address that its ordinary nameserver gives.
    pub fn ordinary_names_resolve(&self) -> bool {
        self.resolves("www.example.test", "203.0.113.80")
    }

    /// Asks once: whoever waits asks again.
    fn resolves(&self, name: &str, address: &str) -> bool {
        let output = process::output(self.host.command("dig").args(["+short", "+time=1", "+tries=1", name]));
        String::from_utf8_lossy(&output.stdout).contains(address)
    }
}
