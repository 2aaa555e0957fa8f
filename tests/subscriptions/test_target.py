"""Which URLs and addresses a webhook may have."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.errors import SubscriptionRefused
from tailrace.subscriptions.target import is_allowed_address, parse_target

HOSTILE_ADDRESSES = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.1.2.3",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2001:10::1",
    "2001:20::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2002:a9fe:a9fe::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]

GOOD_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "172.15.0.1",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "169.253.0.1",
    "223.255.255.254",
    "2606:4700:4700::1111",
    "2a00:1450:4001:82f::200e",
    "2001:4860:4860::8888",
    "64:ff9b::808:808",
]

HOSTILE_URLS = [
    # another scheme
    "http://example.com/hook",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "javascript:alert(1)",
    "//example.com/",
    "example.com/hook",
    "https:example.com",
    "https:/example.com",
    "https://",
    "https:///hook",
    "HTTPS:\\\\example.com",
    # user information
    "https://user@example.com/",
    "https://user:secret@example.com/",
    "https://example.com@127.0.0.1/",
    "https://example.com%40127.0.0.1/",
    "https://@example.com/",
    # what parsers read differently
    "https://example.com\\@127.0.0.1/",
    "https://127.0.0.1\\.example.com/",
    "https://example.com#@127.0.0.1/",
    "https://example.com/#fragment",
    "https://exam ple.com/",
    "https://example.com/a b",
    "https://example.com/\r\nHost: internal",
    "https://example.com/\t",
    "https://example.com\x00.evil.com/",
    " https://example.com/",
    "https://ex\u0430mple.com/",
    "https://\u2460\u2461\u2466.0.0.1/",
    "https://example\u3002com/",
    "https://example.com/\u00fc",
    # local names
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://a.localhost/",
    "https://intranet/",
    "https://db.internal/",
    "https://metadata.google.internal/",
    "https://printer.local/",
    "https://router.home.arpa/",
    "https://kubernetes.default.svc.cluster.local/",
    "https://-bad-.example/",
    "https://a..example/",
    "https://.example.com/",
    "https://[example.com]/",
    "https://[::1",
    # addresses in other spellings
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://127.0.0.1./",
    "https://010.0.0.1/",
    "https://1.2.3.4.5/",
    "https://0/",
    "https://0x/",
    "https://[0:0:0:0:0:ffff:7f00:1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[fe80::1%25eth0]/",
    "https://[v1.fe80::a+en1]/",
    # ports
    "https://example.com:22/",
    "https://example.com:25/",
    "https://example.com:80/",
    "https://example.com:1023/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:-1/",
    "https://example.com:abc/",
    "https://example.com:4 43/",
    # development's exception is for two spellings
    "http://10.0.0.1/hook",
    "http://192.168.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]/",
    "http://127.1/",
    "http://2130706433/",
    "http://0.0.0.0/",
    "http://localhost.example.com/",
    "http://127.0.0.1.nip.io/",
    "http://user@localhost/",
    "http://localhost@example.com/",
]


@pytest.mark.parametrize("text", HOSTILE_ADDRESSES)
def test_an_address_that_is_not_out_on_the_internet_is_refused(text: str) -> None:
    assert not is_allowed_address(ipaddress.ip_address(text))
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(SubscriptionRefused):
        parse_target(f"https://{host}/", allow_localhost=True)
    assert not parse_target("https://example.com/", allow_localhost=True).allows(text)


@pytest.mark.parametrize("text", GOOD_ADDRESSES)
def test_an_address_of_the_internet_is_allowed(text: str) -> None:
    host = f"[{text}]" if ":" in text else text
    target = parse_target(f"https://{host}/", allow_localhost=False)
    assert target.allows(text)


@pytest.mark.parametrize("url", HOSTILE_URLS)
@pytest.mark.parametrize("allow_localhost", [True, False])
def test_a_hostile_url_is_refused(url: str, allow_localhost: bool) -> None:
    with pytest.raises(SubscriptionRefused) as caught:
        parse_target(url, allow_localhost=allow_localhost)
    assert (caught.value.wire_code, caught.value.status) == ("WEBHOOK_URL_REJECTED", 400)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://example.com", "example.com", 443),
        ("https://EXAMPLE.com:443/Hook?x=%2F", "example.com", 443),
        ("https://hooks.example.com:8443/a/b", "hooks.example.com", 8443),
        ("https://xn--mnchen-3ya.example/", "xn--mnchen-3ya.example", 443),
        ("https://example.com./", "example.com.", 443),
        ("https://a_b.example.com:1024/", "a_b.example.com", 1024),
    ],
)
def test_a_public_https_url_is_allowed(url: str, host: str, port: int) -> None:
    target = parse_target(url, allow_localhost=False)
    assert (target.scheme, target.host, target.port, target.is_local) == (
        "https",
        host,
        port,
        False,
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.8.7"])
def test_development_may_send_to_this_machine_and_to_nothing_else(host: str) -> None:
    url = f"http://{host}:3000/hook"
    target = parse_target(url, allow_localhost=True)
    assert target.is_local
    assert target.allows("127.0.0.1")
    assert target.allows("::1")
    assert not any(target.allows(each) for each in ("10.0.0.1", "8.8.8.8", "::ffff:127.0.0.1"))
    with pytest.raises(SubscriptionRefused):
        parse_target(url, allow_localhost=False)


def test_a_url_has_a_greatest_length() -> None:
    url = "https://example.com/".ljust(limits.MAX_WEBHOOK_URL_BYTES, "a")
    parse_target(url, allow_localhost=False)
    with pytest.raises(SubscriptionRefused):
        parse_target(url + "a", allow_localhost=False)


@given(st.ip_addresses())
def test_what_python_calls_local_is_never_allowed(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    nat64 = address in ipaddress.IPv6Network("64:ff9b::/96")
    if not address.is_global and not nat64:
        assert not is_allowed_address(address)


@given(st.text(max_size=60))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    for url in (text, f"https://{text}", f"http://127.0.0.1{text}"):
        try:
            parse_target(url, allow_localhost=True)
        except SubscriptionRefused:
            continue
