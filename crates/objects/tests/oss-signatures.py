#!/usr/bin/env python3
"""Signs requests with Alibaba's own library, at a fixed time, and prints what came of it.

    python3 -m venv V && V/bin/pip install oss2==2.19.1
    V/bin/python oss-signatures.py > oss-signatures.json

The access key is nobody's.
"""

import datetime
import json
import time

import oss2
from oss2 import auth, http, utils

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
SECONDS = 1200
ID, SECRET = "LTAIexample", "secret/of+the=test"
REGION, BUCKET = "cn-hangzhou", "registry"


class Stopped(datetime.datetime):
    @classmethod
    def utcnow(cls):
        return NOW.replace(tzinfo=None)


auth.datetime = Stopped
time.time = NOW.timestamp
date_of = utils.http_date
utils.http_date = lambda timeval=None: date_of(NOW.timestamp())

OCTETS = {"content-type": "application/octet-stream"}
KMS = {
    "x-oss-server-side-encryption": "KMS",
    "x-oss-server-side-encryption-key-id": "9468da86-3509-4f8d-a61e-6eab1eac",
}
UPLOAD = ("uploadId", "0004B9895DBBB6EC98E36")
REQUESTS = [
    ("GET", "docker/registry/v2/blobs/sha256/ab/abcd/data", [], {}),
    ("HEAD", "orlop/blobs/one/two", [], {}),
    ("DELETE", "a key/with äöü + & = ? % ~ signs", [], {}),
    ("GET", "ranges", [], {"range": "bytes=5-9", "x-oss-range-behavior": "standard"}),
    ("PUT", "plain", [], OCTETS),
    ("PUT", "encrypted", [], OCTETS | {"x-oss-server-side-encryption": "AES256"}),
    ("POST", "begun", [("uploads", "")], OCTETS | KMS),
    ("PUT", "part", [("partNumber", "12"), UPLOAD], {}),
    ("POST", "part", [UPLOAD], {"content-type": "application/xml"}),
    ("DELETE", "part", [UPLOAD], {}),
    ("GET", "", [("list-type", "2"), ("max-keys", "1000"), ("prefix", "a/b c"), ("delimiter", "/"),
                 ("continuation-token", "CgJ0+w/==")], {}),
    ("GET", "", [("uploads", ""), ("prefix", "orlop/"), ("key-marker", "a/b"),
                 ("upload-id-marker", "89F0")], {}),
]


def request(method, query, headers):
    made = http.Request(method, "http://host/", params=dict(query), region=REGION, product="oss")
    # Without what every request of the library has: none of that is signed.
    made.headers = http.CaseInsensitiveDict(headers)
    return made


signed = []
for version in ("v4", "v1"):
    signer = oss2.make_auth(ID, SECRET, version)
    for method, key, query, headers in REQUESTS:
        asked = request(method, query, headers)
        signer._sign_request(asked, BUCKET, key)
        url = signer._sign_url(request(method, query, {}), BUCKET, key, SECONDS)
        signed.append({
            "version": version, "method": method, "key": key, "query": query, "headers": headers,
            "authorization": asked.headers["authorization"], "url_query": url.split("?", 1)[1],
        })
print(json.dumps({
    "made_by": f"oss-signatures.py with oss2 {oss2.__version__}",
    "id": ID, "secret": SECRET, "region": REGION, "bucket": BUCKET,
    "now": NOW.isoformat().replace("+00:00", "Z"), "seconds": SECONDS, "signed": signed,
}, indent=1, ensure_ascii=False))
