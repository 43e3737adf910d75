"""The verify API's routes about settlements: bundles recomputed, policies by their id."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastapi import FastAPI, Request, Response

from attestation.errors import UsageError
from attestation.settlement.verdict import SettlementVerdict
from attestation.trust import Trust
from attestation.venues import VenueFile, shipped_venues
from verifier import settlement_openapi as described
from verifier.receiving import Receiver
from verifier.service_metrics import Metrics
from verifier.settlement import (
    SETTLEMENT_BODY_LIMIT,
    SettlementMeans,
    read_settlement_question,
)

SETTLEMENTS = "/v1/settlements/verify"
POLICIES = "/v1/policies/{policy_id}"


class NotServedError(UsageError):
    """This server does not have what is asked for."""

    http_status = 404


def add_settlement_routes(
    app: FastAPI, *, trust: Trust, means: SettlementMeans, receiver: Receiver, metrics: Metrics
) -> None:
    """Adds the routes to a verify API."""
    files = shipped_venues() if means.venue_files is None else means.venue_files
    known = {policy.policy_id: policy.encode() for policy in means.policies}

    @app.post(
        SETTLEMENTS,
        summary="Recompute a settlement",
        description=(
            "Recomputes a trade's outcome from its bundle and compares it with the claim. Every "
            "well-formed question is answered with 200 and a verdict. `expect` is required."
        ),
        openapi_extra={"requestBody": described.request_body()},
        responses=described.responses(),
        response_class=Response,
    )
    async def verify_bundle(request: Request) -> Response:
        with metrics.seconds.time():
            if means.log_policy is None:
                raise NotServedError(
                    "this server was started without a log policy", rule="log_policy"
                )
            async with receiver.body(request, limit=SETTLEMENT_BODY_LIMIT) as body:
                # Other questions are answered meanwhile: a bundle may take a second.
                verdict = await asyncio.to_thread(_recompute, body, trust, means.log_policy, files)
            refused = "" if isinstance(verdict, SettlementVerdict) else verdict.error
            metrics.verdicts.labels(verdict.verdict, refused).inc()
            return Response(verdict.encode(), media_type="application/json")

    @app.get(
        POLICIES,
        summary="Show a settlement policy",
        description="The canonical policy, whose SHA-256 is the id: check that it is.",
        openapi_extra={"parameters": described.policy_parameters()},
        responses=described.policy_responses(),
        response_class=Response,
    )
    async def show_policy(request: Request) -> Response:
        policy_id: str = request.path_params["policy_id"]
        policy = known.get(policy_id)
        if policy is None:
            raise NotServedError(
                "no such policy is known here", rule="policy_id", found=policy_id[:80]
            )
        return Response(policy, media_type="application/json")


def _recompute(
    body: bytes, trust: Trust, log_policy: bytes, files: Mapping[str, VenueFile]
) -> described.Verdict:
    question = read_settlement_question(body)
    return question.answer(trust=trust, log_policy=log_policy, venue_files=files)
