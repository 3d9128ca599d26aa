"""A Hugging Face data set as documents, streamed."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from memlm.data.readers import guarded, table_documents
from memlm.errors import UsageError, WorkError
from memlm.tokens.pieces import Document


class HubDataset:
    """A data set `owner/name` of the hub, pinned to one commit so that every pass reads the same rows.

    `column` holds the text; `split` is which of its splits, `subset` which of its configurations, if it has several.
    """

    def __init__(self, name: str, column: str, split: str, subset: str | None):
        self.name, self.column, self.split, self.subset = name, column, split, subset

    @cached_property
    def revision(self) -> str:
        """The commit that is read; UsageError where there is no such data set, WorkError where no hub is reached."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            return HfApi().dataset_info(self.name).sha or ""
        except RepositoryNotFoundError:
            raise UsageError(
                f"there is no file or folder {self.name}, and Hugging Face has no public data set of that name."
            ) from None
        except Exception as error:  # every transport has its own family of errors
            raise self._unreachable(error) from error

    def documents(self) -> Iterator[Document]:
        """The rows that hold text, in order; UsageError where there is no such split, subset or column."""
        import datasets

        try:
            rows: Any = datasets.load_dataset(
                self.name, self.subset, split=self.split, streaming=True, revision=self.revision
            )
        except ValueError as error:  # names the splits or the subsets that there are
            raise UsageError(f"{self.name}: {' '.join(str(error).split())}") from None
        except (OSError, RuntimeError) as error:
            raise self._unreachable(error) from error
        rows = guarded(rows, (Exception,), self._unreachable)
        return table_documents(self.name, rows, self.column, f"{self.name}, row ")

    def identity(self) -> list[str]:
        """What tells this data set's content from any other's."""
        return [self.name, self.split, self.subset or "", self.column, self.revision]

    def _unreachable(self, error: Exception) -> WorkError:
        return WorkError(
            f"there is no file or folder {self.name}, and the Hugging Face data set of that name could not be read "
            f"({type(error).__name__}): check the name and the network."
        )
