"""The test of the generated Python client in scripts/check-api: an upload, the wait for its result, an
attachment, and an error."""

import os
import sys

import httpx
from client import AuthenticatedClient
from client.api.attachments import attach_upload, get_attachment
from client.api.uploads import confirm_upload, create_upload, get_upload, get_upload_file, list_uploads
from client.models import AttachBody, NewUpload, Problem, Status, Upload

# An MP3 of half a second of silence: 20 frames of MPEG 1 layer III.
FILE = b"".join(bytes([0xFF, 0xFB, 0x90, 0x64]).ljust(417, b"\0") for _ in range(20))


def main() -> None:
    with AuthenticatedClient(
        base_url=sys.argv[1], token=os.environ["API_KEY"], raise_on_unexpected_status=True
    ) as api:
        body = NewUpload(filename="so what.mp3", content_type="audio/mpeg", size=len(FILE))
        upload = create_upload.sync(client=api, body=body)
        assert isinstance(upload, Upload), upload
        assert upload.status is Status.PENDING and upload.etag is None

        request = upload.request
        assert request, "a new upload has a request"
        put = httpx.request(
            request.method, request.url, headers=request.headers.to_dict(), content=FILE
        )
        assert put.is_success, f"the store responds with {put.status_code}"

        confirmed = confirm_upload.sync(upload.id, client=api)
        assert isinstance(confirmed, Upload) and confirmed.status is Status.UPLOADED, confirmed
        waited = get_upload.sync(upload.id, client=api, wait=30)
        assert isinstance(waited, Upload) and waited.size == len(FILE), waited

        served = get_upload_file.sync(upload.id, client=api, redirect=False)
        assert served and not isinstance(served, Problem), served
        assert httpx.get(served.url).content == FILE

        attached = attach_upload.sync("album:42:cover", client=api, body=AttachBody(upload.id))
        assert attached and not isinstance(attached, Problem), attached
        attachment = get_attachment.sync("album:42:cover", client=api)
        assert attachment and not isinstance(attachment, Problem), attachment
        assert attachment.current and attachment.current.id == upload.id

        page = list_uploads.sync(client=api, attach_to="album:42:cover")
        assert page and not isinstance(page, Problem), page
        assert [one.id for one in page.items] == [upload.id] and page.next_cursor is None

        refused = create_upload.sync(client=api, body=NewUpload(filename="notes.txt", size=12))
        assert isinstance(refused, Problem) and refused.status == 400, refused
        assert refused.errors and refused.errors["filename"], refused
    print("ok  the Python client created an upload, waited, attached it and read the file back")


main()
