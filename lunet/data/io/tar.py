"""What ``tarfile`` overlooks: damage that looks like an end, and headers that would fill memory."""

from __future__ import annotations

import tarfile
from typing import Any, ClassVar, NoReturn, Self

_CHUNK = 1 << 20
_LONGEST = 1 << 16  # bytes of a pax or long-name header: names and times take a few hundred
_MOST = 128 << 20  # bytes of all of them: 100,000 members of a kilobyte each
_IN_A_ROW = 16  # of them before one member, which needs four at most
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class Header(tarfile.TarInfo):
    """A member's header that is refused where ``tarfile`` would end the archive in silence.

    For one archive: :func:`bounded_header` makes a class that counts anew.
    """

    total: ClassVar[int] = 0
    in_a_row: ClassVar[int] = 0

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read one block of 512 bytes.

        Raises
        ------
        tarfile.ReadError
            If the archive ends here without saying so, the block's checksum is wrong, or the
            block announces names of more than 64 KiB (or makes it 128 MiB in all), which would be
            read into memory, or is one of many such blocks in a row.
        """
        if len(buf) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it ends without its end-of-archive blocks")
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not any(buf):  # the block of zeros that ends an archive
                raise
            raise tarfile.ReadError(f"damaged header: {error}") from error
        if info.type in _EXTENSIONS:
            cls._count(info.size)
        else:
            cls.in_a_row = 0
        if info.type == tarfile.GNUTYPE_SPARSE:
            _refuse_sparse()
        return info

    @classmethod
    def _count(cls, size: int) -> None:
        if not 0 <= size <= _LONGEST:
            raise tarfile.ReadError(f"a header of {size} bytes, at most {_LONGEST}")
        cls.total += size
        cls.in_a_row += 1
        if cls.total > _MOST:
            raise tarfile.ReadError(f"headers of more than {_MOST} bytes in all")
        if cls.in_a_row > _IN_A_ROW:
            raise tarfile.ReadError(f"more than {_IN_A_ROW} headers of one member")

    # tarfile reads the maps of pax's sparse files whole, however long they are
    def _proc_gnusparse_00(self, *_: Any) -> NoReturn:
        _refuse_sparse()

    def _proc_gnusparse_01(self, *_: Any) -> NoReturn:
        _refuse_sparse()

    def _proc_gnusparse_10(self, *_: Any) -> NoReturn:
        _refuse_sparse()


def bounded_header() -> type[Header]:
    """The class of the headers of one archive."""

    class Bounded(Header):
        """Counts the bytes of one archive's extended headers."""

    return Bounded


def _refuse_sparse() -> NoReturn:
    raise tarfile.ReadError("a sparse file; pack it without --sparse")


def check_end(tar: tarfile.TarFile) -> None:
    """Read an archive, whose members have all been listed, on to its last byte.

    Two blocks of zeros end it and nothing follows them; a compressed one is read to its checksum.

    Raises
    ------
    tarfile.ReadError
        If the archive was cut, or a damaged header in its middle looked like its end.
    """
    stream = tar.fileobj
    assert stream is not None
    stream.seek(tar.offset)
    zeros = 0
    while chunk := stream.read(_CHUNK):
        if any(chunk):
            raise tarfile.ReadError("data after its end-of-archive blocks")
        zeros += len(chunk)
    if zeros < 2 * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends without its end-of-archive blocks")
