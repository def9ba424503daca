//! `countersign.v1.GateService`: every handler is authorise → call the core → encode.

use countersign_proto::v1;
use countersign_proto::v1::gate_service_server::GateService;
use countersign_proto::v1::switch_request::Change;
use tonic::{Request, Response, Status};

use super::core::GateCore;
use crate::admission::Caller;
use crate::authz::{GatePermit, GateRpc};

/// The service over one gate.
#[derive(Clone, Debug)]
pub struct GateGrpc(GateCore);

impl GateGrpc {
    /// Serves `core`.
    pub fn new(core: GateCore) -> Self {
        Self(core)
    }

    fn permit<T>(&self, request: &Request<T>, rpc: GateRpc) -> Result<GatePermit, Status> {
        Ok(Caller::of(request.extensions())?.authorize_gate(rpc, self.0.tenant())?)
    }
}

#[tonic::async_trait]
impl GateService for GateGrpc {
    async fn evaluate(
        &self,
        request: Request<v1::EvaluateRequest>,
    ) -> Result<Response<v1::EvaluateResponse>, Status> {
        let permit = self.permit(&request, GateRpc::Evaluate)?;
        let v1::EvaluateRequest { intent, audience } = request.into_inner();
        Ok(Response::new(self.0.evaluate(permit.caller().name(), &intent, &audience).await?))
    }

    async fn get_action(
        &self,
        request: Request<v1::GetActionRequest>,
    ) -> Result<Response<v1::GetActionResponse>, Status> {
        self.permit(&request, GateRpc::GetAction)?;
        Ok(Response::new(self.0.get_action(&request.get_ref().action_id).await?))
    }

    async fn approve(
        &self,
        request: Request<v1::ApproveRequest>,
    ) -> Result<Response<v1::ApproveResponse>, Status> {
        let permit = self.permit(&request, GateRpc::Approve)?;
        let v1::ApproveRequest { approval, chain } = request.into_inner();
        Ok(Response::new(self.0.approve(permit.caller(), &approval, &chain).await?))
    }

    async fn report_outcome(
        &self,
        request: Request<v1::ReportOutcomeRequest>,
    ) -> Result<Response<v1::ReportOutcomeResponse>, Status> {
        let permit = self.permit(&request, GateRpc::ReportOutcome)?;
        let reporter = permit.caller().name();
        Ok(Response::new(self.0.report_outcome(reporter, request.into_inner()).await?))
    }

    async fn activate_policy(
        &self,
        request: Request<v1::ActivatePolicyRequest>,
    ) -> Result<Response<v1::Recorded>, Status> {
        let permit = self.permit(&request, GateRpc::ActivatePolicy)?;
        Ok(Response::new(self.0.activate_policy(permit.caller(), request.into_inner()).await?))
    }

    async fn issue_grant(
        &self,
        request: Request<v1::IssueGrantRequest>,
    ) -> Result<Response<v1::Recorded>, Status> {
        let permit = self.permit(&request, GateRpc::IssueGrant)?;
        Ok(Response::new(self.0.issue_grant(permit.caller(), request.into_inner()).await?))
    }

    async fn switch(
        &self,
        request: Request<v1::SwitchRequest>,
    ) -> Result<Response<v1::SwitchResponse>, Status> {
        let permit = self.permit(&request, GateRpc::Switch)?;
        let request = request.into_inner();
        // Whoever may stop a tenant need not be who may let it go on.
        if !matches!(request.change, Some(Change::Halt(_) | Change::EndEmergency(_))) {
            permit.may_lift()?;
        }
        Ok(Response::new(self.0.switch(permit.caller(), request).await?))
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GateStatus>, Status> {
        self.permit(&request, GateRpc::GetStatus)?;
        Ok(Response::new(self.0.status()?))
    }
}
