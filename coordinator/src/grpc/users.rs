//! Who pays for jobs.

use nettailor_domain::ids::UserName;
use nettailor_engine::{self as engine, State};
use nettailor_proto::convert::{self, parse};
use nettailor_proto::v1;
use nettailor_proto::v1::users_server::Users;
use nettailor_scheduler::record::UserRecord;
use nettailor_scheduler::view::UserView;
use tonic::{Request, Response, Status};

use super::Context;

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl Users for Service {
    async fn list(
        &self,
        _: Request<v1::ListUsersRequest>,
    ) -> Result<Response<v1::ListUsersResponse>, Status> {
        let all = |state: &State| state.scheduler.users().map(message).collect();
        let users = self.0.handle.read(all).await?;
        Ok(Response::new(v1::ListUsersResponse { users }))
    }

    async fn set(&self, request: Request<v1::SetUserRequest>) -> Result<Response<v1::User>, Status> {
        let v1::SetUserRequest {
            name,
            weight,
            limit,
            guarantee,
        } = request.into_inner();
        let name: UserName = parse(&name, "name")?;
        if weight == Some(0) {
            return Err(convert::Error::invalid("weight", "expected 1 or more, found 0").into());
        }
        let request = engine::Request::SetUser {
            name: name.clone(),
            weight,
            limit: limit.map(|limit| Some(limit).filter(|limit| *limit > 0)),
            guarantee,
        };
        let shown = self.0.handle.set(request, move |state| {
            let user = state.scheduler.user(&name);
            let unused = UserView {
                record: UserRecord::usual(name),
                in_use: 0,
                waiting: 0,
                used_seconds: 0,
            };
            message(user.unwrap_or(unused))
        });
        Ok(Response::new(shown.await?))
    }
}

fn message(user: UserView) -> v1::User {
    v1::User {
        name: user.record.name.into(),
        weight: user.record.weight,
        limit: user.record.limit.unwrap_or(0),
        guarantee: user.record.guarantee,
        in_use: user.in_use,
        waiting: user.waiting,
        usage_seconds: user.used_seconds,
    }
}
