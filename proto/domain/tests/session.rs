//! What agents and the coordinator tell each other.

use nettailor_domain::session::Address;

#[test]
fn an_address_is_a_host_and_a_port() {
    for text in [
        "10.0.0.7:4711",
        "node-1.cluster_a:1",
        "[fe80::1]:65535",
        "[::1]:80",
    ] {
        let address: Address = text.parse().expect("an address");
        assert_eq!((address.as_str(), address.to_string().as_str()), (text, text));
    }
    for text in [
        "",
        "node",
        "node:",
        ":80",
        "node:0",
        "node:65536",
        "node:+80x",
        "fe80::1:80",
        "[node]:80",
        "a b:80",
        "node\n:80",
    ] {
        let error = text.parse::<Address>().expect_err("no address");
        assert_eq!(
            error.to_string(),
            format!("address `{text}` is not valid: expected host:port, an IPv6 host in brackets")
        );
    }
}
