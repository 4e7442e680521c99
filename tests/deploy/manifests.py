#!/usr/bin/env python3
"""Reads YAML from standard input, and writes its documents as a list of JSON objects.

usage: manifests.py [--kubernetes]

With --kubernetes each is checked against the schema of its kind: no field that the kind does not know, none that it must have
and has not. Exits with 1 and says what is wrong.
"""
import json, sys

import yaml

documents = [document for document in yaml.safe_load_all(sys.stdin) if document is not None]

if "--kubernetes" in sys.argv[1:]:
    import kubernetes_validate
    from cloudcoil.models.cert_manager import v1 as cert_manager
    from cloudcoil.models.keda import v1alpha1 as keda

    models = {"cert-manager.io/v1": cert_manager, "keda.sh/v1alpha1": keda}
    for document in documents:
        place = f"{document['kind']} {document['metadata']['name']}"
        try:
            if module := models.get(document["apiVersion"]):
                model = getattr(module, document["kind"]).model_validate(document)
                known = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
                if known != document:
                    sys.exit(f"{place}: the kind does not have all of its fields\n{document}\n{known}")
            else:
                kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        except Exception as error:
            sys.exit(f"{place}: {getattr(error, 'message', error)}")

json.dump(documents, sys.stdout)
