from tridex.serving.ingest import IngestService
from tridex.serving.triton import python_model

TritonPythonModel = python_model(IngestService)
