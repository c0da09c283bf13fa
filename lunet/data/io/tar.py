"""Catches what ``tarfile`` accepts: damage that looks like an end, headers that fill the memory."""

from __future__ import annotations

import tarfile
from typing import Any, ClassVar, NoReturn, Self

_CHUNK = 1 << 20
_LONGEST = 1 << 16  # bytes of a pax or long-name header: names and times take a few hundred
_MOST = 128 << 20  # bytes of all such headers: 100,000 of a kilobyte each
_IN_A_ROW = 16  # such headers before one member, which needs four at most
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class Header(tarfile.TarInfo):
    """A member's header, refused where ``tarfile`` would silently take it for the archive's end.

    The class counts bytes for one archive; :func:`bounded_header` makes a new class for each.
    """

    total: ClassVar[int] = 0
    in_a_row: ClassVar[int] = 0

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read one block of 512 bytes.

        Raises
        ------
        tarfile.ReadError
            If the archive ends here without an end marker, the block's checksum is wrong, the block
            announces names of more than 64 KiB, or 128 MiB in all, which would be read into memory,
            or too many such blocks come in a row.
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

    # tarfile reads the map of a pax sparse file into memory, however long it is
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
    """Read the rest of an archive, after all its members have been listed, and check its end.

    An archive must end with two blocks of zeros; a compressed one is read to its checksum.

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
