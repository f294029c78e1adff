#!/usr/bin/env python3
"""Signs URLs with Amazon's own library, and prints what came of it.

    python3 -m venv V && V/bin/pip install botocore==1.43.11 cryptography
    V/bin/python signatures.py > signatures.json

The key (`openssl genrsa -traditional 2048`) is nobody's.
"""

import datetime
import json
import pathlib

from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

KEY = serialization.load_pem_private_key(
    pathlib.Path(__file__).with_name("key.pem").read_bytes(), password=None
)
PATH = "docker/registry/v2/blobs/sha256/e3/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/data"
URLS = [
    f"https://d111111abcdef8.cloudfront.net/{PATH}",
    f"http://cdn.example:8080/team/orlop/blobs/0197/1?version=2",
]


def sign(message):
    return KEY.sign(message, padding.PKCS1v15(), hashes.SHA1())


signer = CloudFrontSigner("KEXAMPLE12345", sign)
signed = []
for number, url in enumerate(URLS * 20):
    end = 1767323045 + number * 1201
    date = datetime.datetime.fromtimestamp(end, datetime.timezone.utc).replace(tzinfo=None)
    of_aws = signer.generate_presigned_url(url, date_less_than=date)
    signed.append({"url": url, "end": end, "signed": of_aws})
print(json.dumps(signed, indent=1))
