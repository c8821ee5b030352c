//! UserService: who may log in to the page. Passwords and their hashes are nobody's to read.

use gantry_model::name::Id;
use gantry_model::wire::timestamp_message;
use gantry_proto::v1 as pb;
use pb::user::Role;
use pb::user_service_server::UserService;
use tonic::{Request, Response, Status};

use super::Calls;
use super::error::ApiError;
use super::filter::{self, Filter};
use super::page::Page;
use crate::store::{Store, User};

#[tonic::async_trait]
impl UserService for Calls {
    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        Ok(Response::new(list(&self.control.store, &request.into_inner()).await?))
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        Ok(Response::new(get(&self.control.store, &request.into_inner().name).await?))
    }
}

async fn list(
    store: &Store,
    request: &pb::ListUsersRequest,
) -> Result<pb::ListUsersResponse, ApiError> {
    let filter = Filter::parse(&request.filter, filter::USERS)?;
    let page = Page::parse(request.page_size, &request.page_token, &["users", &request.filter])?;
    let users = store.users().await?;
    let all = users.iter().map(message);
    let id = |user: &pb::User| user.name.trim_start_matches("users/").to_owned();
    let (users, next_page_token) = page.cut(all, id, |user| filter.matches(user))?;
    Ok(pb::ListUsersResponse { users, next_page_token })
}

async fn get(store: &Store, name: &str) -> Result<pb::User, ApiError> {
    let Some(id) = name.strip_prefix("users/") else {
        let what = "does not have the form users/{user}";
        return Err(ApiError::field("name", "INVALID_NAME", what));
    };
    let id: Id = id.parse().map_err(|error| ApiError::name("name", &error))?;
    let user = store.user(id.as_str()).await?;
    let missing = || ApiError::NotFound { kind: "user", name: name.to_owned() };
    user.as_ref().map(message).ok_or_else(missing)
}

fn message(user: &User) -> pb::User {
    let role = match user.role.as_str() {
        "administrator" => Role::Administrator,
        "operator" => Role::Operator,
        _ => Role::Viewer,
    };
    pb::User {
        name: format!("users/{}", user.id),
        role: role.into(),
        create_time: Some(timestamp_message(user.create_time)),
        password_time: Some(timestamp_message(user.password_time)),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::store::NewEvent;

    #[tokio::test]
    async fn users_are_shown_without_what_their_passwords_are_known_by() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("gantry.db")).await.unwrap();
        let event = NewEvent::info("USER_CREATED", &"users/admin", "made");
        store.set_password("admin", "$argon2id$secret", "console".into(), event).await.unwrap();
        let answer = list(&store, &pb::ListUsersRequest::default()).await.unwrap();
        assert_eq!(answer.users, [get(&store, "users/admin").await.unwrap()]);
        assert_eq!(answer.users[0].role(), Role::Administrator);
        assert!(!format!("{answer:?}").contains("secret"));
        let request = pb::ListUsersRequest { filter: "role = VIEWER".into(), ..Default::default() };
        assert!(list(&store, &request).await.unwrap().users.is_empty());
        for (name, code) in [("users/nobody", Code::NotFound), ("admin", Code::InvalidArgument)] {
            let refused = Status::from(get(&store, name).await.unwrap_err());
            assert_eq!(refused.code(), code, "{name}");
        }
    }
}
