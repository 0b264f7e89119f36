from tridex.serving.backend.python_backend import python_model
from tridex.serving.models.ingest import IngestService

TritonPythonModel = python_model(IngestService)
