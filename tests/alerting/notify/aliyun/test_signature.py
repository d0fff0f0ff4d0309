from tocsin_alerting.notify.aliyun.signature import signed_call


def test_the_signature_is_that_of_the_documents_example() -> None:
    """The fixed example of help.aliyun.com/document_detail/2593177.html."""
    query = {
        "RegionId": "cn-shanghai",
        "ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
    }
    request = signed_call(
        "https://ecs.cn-shanghai.aliyuncs.com",
        "RunInstances",
        "2014-05-26",
        query,
        ("YourAccessKeyId", "YourAccessKeySecret"),
        1_698_315_752_000,  # 2023-10-26T10:22:32Z
        "3156853299f313e23d1673dc12e1703d",
    )
    assert request.headers["Authorization"] == (
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;"
        "x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )


def test_parameters_are_written_as_rfc_3986_says() -> None:
    query = {"b": "中 a+*~/'", "a": "1"}
    request = signed_call("https://h.example/", "A", "V", query, ("i", "s"), 0, "n")
    assert request.url == "https://h.example/?a=1&b=%E4%B8%AD%20a%2B%2A~%2F%27"


def test_the_signature_is_that_of_the_vendors_own_signer() -> None:
    """Made by alibabacloud-openapi-util 0.2.4, with what RFC 3986 has to write in a value."""
    query = {
        "PhoneNumbers": "13800000001,85290000001",
        "SignName": "某某 科技",
        "TemplateParam": '{"a": "1+2*3~/\'!() 中😀"}',
        "OutId": "42",
    }
    url, key = "https://dysmsapi.aliyuncs.com", ("AK", "SK")
    request = signed_call(url, "SendSms", "2017-05-25", query, key, 1767225600000, "nonce1")
    assert request.headers["Authorization"].endswith(
        "Signature=075d0664744db83de4a9cd22c93589481db63e05ece52021c281031dcc12f8b2"
    )
